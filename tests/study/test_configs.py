"""Config files: what is wrong with one, with its variant, metric or law is one sentence before anything is trained."""

import dataclasses
import functools

import pytest
import tiny_images
import tiny_study
from launcher import ROOT

from scaling import experiment as experiments
from scaling import families
from scaling.evaluate.judge import MEASURED
from scaling.fields import ConfigError
from scaling.study import checks, configs

GOOD = """from scaling import experiment
def get_config(scale="full"):
    config = experiment.config("transformer")
    config.metric = "bits_per_byte"
    if scale == "quick":
        config.data.tokens = 2**14
    return config
def sweep(config):
    return [experiment.from_config(config)]
"""


@pytest.fixture
def write(tmp_path):
    def file(text, variant=""):
        path = tmp_path / "mine.py"
        path.write_text(text)
        return f"{path}{variant}"
    return file


@pytest.mark.parametrize("change,said", [
    (("def sweep", "def sweeps"), "no function sweep"), (("def get_config", "def config"), "no function get_config"),
    (("    return config\n", "    return config)\n"), "syntax error in line 7: unmatched"),
    (("from scaling import experiment", "import scalings"), "ModuleNotFoundError in line 1: No module named 'scalings'"),
    (("    return config\n", "    return None\n"), "returned NoneType"),
    (("metric", "metrics.x"), "AttributeError in line 4")])
def test_a_config_file_that_cannot_be_used_gives_one_sentence(write, change, said):
    path = write(GOOD.replace(*change))
    with pytest.raises(ConfigError, match=said) as caught:
        configs.read_config(path)
    assert path in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="nearest: configs/quickstart.py|not a file here"):
        configs.load_config("configs/quikstart.py")
    with pytest.raises(ConfigError, match="not a file"):
        configs.load_config("")


@pytest.mark.parametrize("path", ["configs/vae_scaling.py", "configs/gan_scaling.py", "configs/diffusion_scaling.py",
                                  "configs/fsq_scaling.py", "configs/coded_scaling.py", "configs/multimodal.py",
                                  "configs/classifier.py"])
def test_a_variant_that_a_config_does_not_know_is_refused_with_the_nearest(path):
    assert configs.read_config(f"{ROOT}/{path}:quick").to_dict() != configs.read_config(f"{ROOT}/{path}").to_dict()
    assert configs.read_config(f"{ROOT}/{path}:full").to_dict() == configs.read_config(f"{ROOT}/{path}").to_dict()
    for wrong, known in {"quik": "quick", "Quick": "quick", "": "quick", "fast": "rates"}.items():
        with pytest.raises(ConfigError, match="not a variant") as caught:
            configs.load_config(f"{ROOT}/{path}:{wrong}")
        assert known in str(caught.value)


def runs_of(path, variant):
    module = configs.load_config(f"{ROOT}/configs/{path}:{variant}")
    config = module.get_config(variant)
    return [*module.sweep(config), module.target(config, None)]


def test_runs_on_garments_differ_from_those_on_fashion_mnist_by_the_space_that_they_are_judged_in_alone():
    plain, garments = (runs_of("generators.py", f"gan-{data}-10") for data in ("fashion_mnist", "garments"))
    for one, other in zip(plain, garments, strict=True):
        assert one.data.features == "classifier" and one.replace({"data.features": "labels"}) == other


def test_runs_of_patches_are_those_of_codes_without_a_tokenizer():
    late, early = (runs_of("multimodal.py", variant) for variant in ("quick", "patches-quick"))
    for one, other in zip(late, early, strict=True):
        assert one.start is not None and other.start is None and other.family.images == "patches"
        assert dataclasses.replace(one, start=None).replace({"family.images": "patches"}) == other


@pytest.mark.parametrize("family", ["vae", "gan", "diffusion", "multimodal"])
def test_models_whose_bias_is_measured_are_told_the_digit_and_nothing_of_the_weight(family):
    module = configs.load_config(f"{ROOT}/configs/bias.py:{family}")
    runs = module.sweep(module.get_config(family))
    assert len({(run.family, run.data.examples, run.seed) for run in runs}) == len(runs) == 2 * 3 * 2
    for run in runs:
        assert families.name(run.family) == family and (run.data.correlate, run.data.agree) == ("character,weight", 0.8)
        assert run.data.label == ("" if family == "multimodal" else "character")
        assert run.data.caption == (len("DIGIT THREE,") if family == "multimodal" else 0)  # the font's name comes after
    with pytest.raises(ConfigError, match=f"nearest: .*{family}"):
        configs.read_config(f"{ROOT}/configs/bias.py:{family}s")


@pytest.mark.parametrize("file,kinds", [("textgan", ("tuned", "scratch")), ("translation", ("translation", "postfix")),
                                        ("pretrain", ("tuned", "scratch", "probe", "control"))])
def test_every_kind_of_a_config_has_a_quick_variant_of_less_work_and_other_names_are_refused(file, kinds):
    module = configs.load_config(f"{ROOT}/configs/{file}.py")

    def work(variant):
        return sum(run.data.seen * run.family.width for run in module.sweep(module.get_config(variant)))

    for kind in kinds:
        assert work(f"{kind}-quick") < work(kind) / 3
    assert module.get_config("quick").to_dict() == module.get_config(f"{kinds[0]}-quick").to_dict()
    for wrong in ("quik", "-quick", "", f"{kinds[0]}quick"):
        with pytest.raises(ConfigError, match="not a variant of this config; (nearest|there are): .*quick"):
            configs.read_config(f"{ROOT}/configs/{file}.py:{wrong}")


def test_variants_need_no_list_and_may_be_anything_that_changes_the_config(write):
    assert configs.read_config(write(GOOD, ":quick")).data.tokens == 2**14
    sized = GOOD.replace("    return config", "    config.family.size = float(scale)\n    return config", 1)
    assert configs.read_config(write(sized, ":3e4")).family.size == 3e4
    with pytest.raises(ConfigError, match="ValueError in line 7"):
        configs.read_config(write(sized, ":large"))
    with pytest.raises(ConfigError, match="has no variants; write it without :x"):
        configs.load_config(write(GOOD.replace('scale="full"', "").replace("scale", "'full'"), ":x"))


@functools.cache
def definition(module=tiny_study, *arguments):
    return configs.define_study(module, module.get_config(*arguments))


@pytest.mark.parametrize("changes,said", [
    ({"metric": "bits_per_bite"}, "metric='bits_per_bite' is no metric.*nearest: bits_per_byte"),
    ({"metric": ""}, "metric=''"), ({"metric": "fd"}, "metric='fd'"), ({"beside": ("los",)}, "beside='los'.*nearest: loss"),
    ({"law": "chinchila"}, "law='chinchila'.*chinchilla"), ({"law": "power"}, "takes x, which a study does not measure"),
    ({"law": 3}, "law=3"), ({"metric": 3}, "metric=3"), ({"sweep": []}, "no runs"),
    ({"sweep": experiments.grid(definition().sweep[0], {"data.tokens": [2560 * n for n in range(1, 8)]})}, "one size"),
    ({"sweep": definition().sweep[:2]}, "2 combinations.*5 parameters")])
def test_a_study_that_would_fail_after_training_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        checks.check_study(dataclasses.replace(definition(), **changes))


def test_studies_that_can_be_fitted_pass_and_small_ones_without_a_target_are_told():
    assert checks.check_study(definition()) == []
    assert checks.check_study(dataclasses.replace(definition(), metric="loss_package", beside=("accuracy",))) == []
    with pytest.raises(ConfigError, match="loss_package"):
        checks.check_study(dataclasses.replace(definition(), metric="loss_package"), ("iid", "file"))
    small = dataclasses.replace(definition(), sweep=definition().sweep[:2], target=None)
    assert [said.rpartition(", ")[2] for said in checks.check_study(small)] == ["so no law will be fitted"] * 2


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_metrics_of_samples_are_known_where_samples_are_judged(family):
    found = definition(tiny_images, family)
    assert checks.check_study(found) == []
    assert checks.check_study(dataclasses.replace(found, beside=MEASURED)) == []
    silent = dataclasses.replace(found, sweep=experiments.grid(found.sweep, {"data.samples": [0]}), metric="kid")
    with pytest.raises(ConfigError, match="metric='kid'.*data.samples"):
        checks.check_study(silent)


def test_a_family_that_is_not_that_of_its_data_is_refused():
    e = definition().sweep[0]
    wrong = e.replace({"family": dataclasses.replace(e.family, vocab=7)})
    with pytest.raises(ConfigError, match="family.vocab=7 is not the 256 of the data"):
        checks.check_study(dataclasses.replace(definition(), sweep=[wrong]))

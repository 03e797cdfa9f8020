"""Whatever a run would refuse is refused before anything is created, in one sentence that names the field."""

import types

import pytest
import tiny_images
import tiny_study

from scaling import experiment as experiments
from scaling.data.tokenizers import Bytes
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError, DataError, EvaluateError
from scaling.store.files import WorkdirError
from scaling.study import configs, overview, prompts
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions


@pytest.fixture
def start(corpus, tmp_path, monkeypatch):
    """Plans a study as `experiments.run` does, up to the point where it would create its workdir."""
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))

    def plan(module=tiny_study, workdir=tmp_path / "runs", fork=None, pack=1, options=None, **changes):
        config = module.get_config(*(["vae"] if module is tiny_images else []))
        if module is tiny_study:
            config.data.name, config.data.batch = f"text:{corpus}/*.txt", 8  # a sequence for each device
        config.update_from_flattened_dict(changes)
        options = TrainingOptions(**options or {})
        return Study(configs.define_study(module, config), workdir, options, pack, "command", fork)
    return plan


REFUSED = [
    ({"data.evaluation_tokens": 10**8}, "data.evaluation_tokens=100,000,000"),
    ({"data.batch": 7}, "data.batch=8"),
    ({"microbatch": 3}, "microbatch=3"),
    ({"optim.learning_rate": -1.0}, "optim.learning_rate"),
    ({"learning_rates": (4e-3, -1.0)}, "optim.learning_rate"),
    ({"tokens": (100,)}, "data.tokens=100"),
    ({"target_tokens": 100}, "data.tokens=100"),
    ({"sizes": ()}, "'family' has no values, so that there is no run"),
    ({"layout": "tensr"}, "layout='tensr'.*tensor"),
    ({"optim.name": "adamv"}, "adamw"),
    ({"options": {"mesh": "data=3"}}, "mesh='data=3'"),
    ({"options": {"mesh": "foo"}}, "mesh axis 'foo' is not known"),
    ({"options": {"writers": ("foo",)}}, "--writers=foo is not known; there are: jsonl, tensorboard, wandb"),
    ({"prompts": ("a", "x" * 32), "family.positions": "learned"}, "prompts: the prompt 'xxx.*' has 32 tokens.* end at 32"),
    ({"tune": -0.1}, "tune=-0.1 must be a share of the sweep's FLOPs from 0 to 10"),
    ({"stop_early": "half"}, "stop_early='half' is no rule; write median, halving, or halving:3"),
    ({"stop_early": "halving:1"}, "stop_early='halving:1' is no rule"),
    ({"stop_early": "halving", "options": {"keep_trunks": "none"}}, "leave out --keep_trunks=none"),
    ({"tune_sampler": "tpe"}, "tune_sampler='tpe' is no sampler; write one of grid, optuna"),
    ({"tune_sampler": "optuna"}, "the budget of tune, which is 0"),
    ({"tune": 25.0}, "tune=25.0 must be .*, not a percentage; write 0.25"),
    ({"tune": float("nan")}, "tune=nan must be a share"),
    ({"prompts": ("\udcff",)}, "prompts: the prompt .* is not valid Unicode"),
]


@pytest.mark.parametrize("change, says", REFUSED, ids=[str(sorted(change)) for change, _ in REFUSED])
def test_settings_that_cannot_run_are_refused_and_nothing_is_created(start, tmp_path, change, says):
    with pytest.raises(ConfigError, match=says) as caught:
        start(**change)
    assert "\n" not in str(caught.value) and not (tmp_path / "runs").exists()


def test_a_workdir_that_cannot_be_one_is_refused_before_data_are_read(start, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "within"):
        with pytest.raises(WorkdirError, match="is a file, or lies inside one"):
            start(workdir=path)
    for old, says in [(tmp_path / "nowhere", "is not a directory"), (tmp_path, "holds no study")]:
        with pytest.raises(WorkdirError, match=f"--fork=.* {says}"):
            start(fork=old)
    assert not (tmp_path / "data").exists()


def test_text_without_an_evaluation_set_is_refused(start, monkeypatch):
    from scaling.data.source import TextSource
    make = TextSource.__init__

    def without(self, *arguments):
        make(self, *arguments)
        self.splits = ()
    monkeypatch.setattr(TextSource, "__init__", without)
    with pytest.raises(ConfigError, match="data.name=text:.* has no evaluation set"):
        start()


def test_a_judge_is_refused_before_training(start, tmp_path):
    (tmp_path / "dinov2.pth").write_bytes(b"torch")
    judged = {"data.samples": 32, "data.features": "dinov2"}
    for change, says in [({}, "weights file"), ({"data.weights": str(tmp_path / "dinov2.pth")}, "convert a file of torch"),
                         ({"data.features": "dino"}, "not known")]:
        with pytest.raises((ConfigError, EvaluateError, DataError), match=says):
            start(tiny_images, **{**judged, **change})
    with pytest.raises(ConfigError, match="vae does not: leave prompts out"):
        start(tiny_images, prompts=("a",))
    assert not (tmp_path / "runs").exists()


def test_a_plan_says_what_was_found_and_how_often_data_repeat(start, tmp_path):
    text = start(target_tokens=409_600).describe()
    assert "17 runs in 3 compiled programs" in text and "FLOPs" in text and "33% for a transformer" in text
    assert "D from 2.56k to 410k tokens of" in text and "is seen up to 3." in text
    assert not (tmp_path / "runs").exists()


def test_a_plan_says_what_more_learning_rates_may_cost(start, tmp_path):
    study = start(tune=0.5)
    said = study.describe()
    assert "tune=0.5: cells whose best learning rate is at the edge of those tried ask for the next one" in said
    assert f"for at most {0.5 * study.plan.flops():.3g} FLOPs of the models in all, 50% of the sweep's" in said
    for change in ({}, {"tune": 0.5, "learning_rates": (4e-3,)}):  # one rate has no edge
        assert "tune=" not in start(**change).describe()
    assert not (tmp_path / "runs").exists()


def test_whether_edges_are_fitted_is_yes_or_no(start, monkeypatch):
    config = tiny_study.get_config

    def unchecked():
        found = config()
        with found.ignore_type():
            found.fit_edges = "maybe"
        return found
    monkeypatch.setattr(tiny_study, "get_config", unchecked)
    with pytest.raises(ConfigError, match="fit_edges='maybe' must be True or False"):
        start()


def test_an_endless_stream_is_not_repeated_unless_a_part_of_it_is():
    base = experiments.from_config(tiny_images.get_config("vae"))
    some = [base.replace({"data.examples": n, "data.unique_examples": u}) for n, u in ((80, 0), (640, 0), (640, 64))]
    sources = types.SimpleNamespace(source=lambda e: types.SimpleNamespace(
        unique_examples=e.data.unique or overview.ENDLESS))
    assert overview.repeats(some[:2], sources) == "D from 80 to 640 examples of endlessly many unique ones: no repeats"
    assert overview.repeats(some, sources).endswith("64 to endlessly many unique ones: each of them is seen up to 10 times")


def test_an_empty_shard_says_so_and_creates_nothing(start, tmp_path, capsys):
    study = start(learning_rates=(4e-3,), pack=0)
    study.train_shard(7, 8)
    assert "shard 7/8 is empty, since the sweep has" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_an_empty_prompt_is_the_end_of_the_document_before():
    encoded = prompts.encode_prompt("", Bytes())
    assert encoded.tolist() == [prompts.END]
    assert prompts.room_after(encoded, Transformer.ladder(1e4, length=32, positions="learned")) == 31
    assert prompts.room_after(encoded, Transformer.ladder(1e4, length=32)) is None


def test_what_could_not_be_fitted_is_refused_or_said(start):
    for change, says in [({"metric": "bits_per_bite"}, "metric='bits_per_bite'.*bits_per_byte"),
                         ({"beside": ("los",)}, "beside"),
                         ({"law": "chinchila"}, "law='chinchila'"), ({"sizes": (5e3,)}, "add sizes or amounts of data"),
                         ({"fix": "E"}, "such as E=3.379"),
                         ({"fix": "F=1"}, "fix='F=1' cannot be held: .* no parameter 'F'")]:
        with pytest.raises(ConfigError, match=says):
            start(**change)


def test_a_target_with_seeds_is_as_many_times_the_largest_run_as_each_of_them(start):
    one, three = (next(line for line in start(**changes).describe().splitlines() if "target, " in line)
                  for changes in ({}, {"target_seeds": 3}))
    ratio = one.rpartition("target, ")[2]
    assert ratio.endswith("times the largest run's") and float(ratio.split()[0]) > 1
    assert three.endswith(f"target, 3 seeds, each {ratio}")

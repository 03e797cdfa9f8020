"""configs/finetune.py: pretraining is trained once, fine-tuned runs are the study, and what cannot be taken is refused."""

import pathlib

import pytest

from scaling import laws
from scaling.fields import ConfigError
from scaling.results import planned, records
from scaling.study import configs
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions

PATH = f"{pathlib.Path(__file__).parents[2]}/configs/finetune.py"
SMALL = {"widths": (16,), "prompts": ("a",), "data.length": 32, "data.batch": 8, "data.evaluation_tokens": 1024,
         "optim.warmup": 2, "optim.name": "adamw", "family.layers": 1}
OF_BASE = {f"start.experiment.{name}": value for name, value in SMALL.items() if "." in name}


@pytest.fixture
def study(corpus, tmp_path, monkeypatch):
    """A small study of the config, on two halves of the corpus."""
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))

    def plan(variant="tuned", workdir="tuned", fork=None, options=None, **changes):
        config = configs.read_config(f"{PATH}:{variant}")
        small = SMALL | {"data.name": f"text:{corpus}/[0-2]*.txt", "tokens": (2560, 5120)}
        if variant == "tuned":
            small |= OF_BASE | {"start.experiment.data.name": f"text:{corpus}/[3-5]*.txt",
                                "start.experiment.data.tokens": 20_480}
        config.update_from_flattened_dict(small | changes)
        definition = configs.define_study(configs.load_config(PATH), config)
        return Study(definition, tmp_path / workdir, TrainingOptions(**options or {}), 1, "command", fork)
    return plan


@pytest.mark.slow
def test_a_pretrained_model_needs_less_data(study, tmp_path):
    tuned = study()
    assert "others begin with them" in tuned.describe()
    tuned.train()
    study("scratch", "scratch", tokens=(2560, 5120, 20_480)).train()
    table = records.load_records(tmp_path / "tuned")
    assert sorted(table["role"]) == ["start", "sweep", "sweep"]
    assert set(planned.load_planned(tmp_path / "tuned")[0]["role"]) == {"sweep"}
    own = table[table["role"] == "sweep"]
    assert (own["start.tokens_seen"] == 20_480).all() and (own["flops_cumulative"] > own["flops"]).all()
    scratch, tuned = (laws.Runs.from_workdir(tmp_path / name, "bits_per_byte") for name in ("scratch", "tuned"))
    moved = laws.effective_data(scratch, tuned)
    assert moved["D_F"].tolist() == [2560, 5120] and moved["D_T"][0] > 0


def test_another_study_takes_what_is_trained_and_a_part_of_it_trains_what_it_needs(study, tmp_path):
    first = study(tokens=(2560,))
    first.train(first.plan.with_bases(first.plan.packs[:1]))
    [base] = first.plan.packs[0].runs
    assert [path.stem for path in (tmp_path / "tuned" / "records").iterdir()] == [base.fingerprint]
    other = study(workdir="other", fork=tmp_path / "tuned", tokens=(5120,))
    assert "0 of the sweep's 1 runs, and 1 run that they begin with, are copied from" in other.describe()
    other.begin()
    assert other.runner.records.read(base.fingerprint)["role"] == "start" and not other.runner.done(other.plan.runs)
    # What other runs began with may be asked for itself: then it is of the sweep, and is not trained again.
    asked = study("scratch", "asked", fork=tmp_path / "tuned", tokens=(20_480,), **{"data.name": base.experiment.data.name})
    asked.begin()
    assert asked.plan.runs[0].fingerprint == base.fingerprint
    assert asked.runner.records.read(base.fingerprint)["role"] == "sweep"
    grown = planned.with_asked_roles(records.load_records(tmp_path / "other"), {base.fingerprint})
    assert grown["role"].tolist() == ["sweep"]


@pytest.mark.parametrize("change, says", [
    ({"start.takes": {"model/layer": "model/layers"}}, "'model/layer' names no parameters of this run; nearest: model/"),
    ({"start.takes": {"model/embed": "model/norm"}}, "has no parameter 'model/norm/weight' to be 'model/embed/weight'"),
    ({"start.takes": {"model/embed": "model/readout"}}, r"'model/embed/weight' is float32\[256, 16\] here, and "
                                                        r"'model/readout/weight' is float32\[16, 256\] in the run"),
    ({"start.experiment.data.tokenizer": "bpe:270", "data.tokenizer": "bpe:270"},
     "start: tables are read by tokenizer bpe270-.* here, and by tokenizer bpe270-.* in the run"),
    ({"stop_early": "median"}, "stop_early='median' may stop the run that another one begins with"),
    ({"optim.trainable": "last:7"}, "optim.trainable='last:7': this model has a stack of 1 layers"),
    ({"start.experiment.data.length": 64}, "family.length=32 is not the 64 of the data")],
    ids=["path", "other path", "shape", "tokenizer", "stopping", "layers", "length"])
def test_what_cannot_be_taken_is_refused_and_nothing_is_created(study, tmp_path, change, says):
    with pytest.raises(ConfigError, match=says) as caught:
        study(**change)
    assert "\n" not in str(caught.value) and not (tmp_path / "tuned").exists()

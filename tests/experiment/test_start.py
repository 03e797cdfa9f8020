"""What a run may begin with is checked before anything is trained; configs, sweeps and records can express it."""

import json
import pickle

import pytest

from scaling import experiment
from scaling.experiment import Start, grid
from scaling.experiment.names import named_by
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError

SMALL = {"data.length": 32, "data.tokens": 8 * 32 * 40, "optim.warmup": 4}
BASE = experiment.from_config(experiment.config("transformer", **{"family.size": 1e4, **SMALL}))
TUNED = BASE.replace({"start": Start(BASE), "data.unique_tokens": 640})


def test_records_pickles_and_configs_give_the_same_experiment():
    chain = TUNED.replace({"start": Start(TUNED, {"model/layers": "model/layers"}), "optim.trainable": "head"})
    assert experiment.from_dict(json.loads(json.dumps(experiment.to_dict(chain)))) == chain
    assert pickle.loads(pickle.dumps(chain)) == chain and hash(chain) == hash(pickle.loads(pickle.dumps(chain)))
    assert "start" not in experiment.to_dict(BASE)
    config = experiment.config("transformer", **{"family.size": 1e4, **SMALL, "data.unique_tokens": 640})
    config.start = {"experiment": experiment.config("transformer", **{"family.size": 1e4, **SMALL}), "takes": {}}
    assert experiment.from_config(config) == TUNED
    config.start.takes = {"model/layers": "model/layers"}
    assert experiment.from_config(config).start.takes == (("model/layers", "model/layers"),)
    del config.start.takes
    with pytest.raises(ConfigError, match="config.start has no field takes; write {'experiment':"):
        experiment.from_config(config)


def test_sweeps_change_what_runs_begin_with():
    found = grid(TUNED, {"start.experiment.data.length": [32, 64], "start": [Start(BASE), Start(TUNED)]})
    assert [e.start.experiment.data.length for e in found] == [32, 32, 64, 64]
    assert found[2].start.experiment.family.length == 64  # what the data determine follows them
    assert [len(experiment.bases(e)) for e in found] == [1, 2, 1, 2]
    with pytest.raises(ConfigError, match="start.experiment.seed changes nothing, since start is None"):
        grid(TUNED, {"start.experiment.seed": [1], "start": [None]})


def test_the_names_of_runs_that_begin_with_fresh_parameters_are_those_of_older_versions():
    older = {name: value for name, value in experiment.to_dict(BASE)["optim"].items() if name != "trainable"}
    assert set(older) < set(experiment.to_dict(BASE)["optim"])
    read = experiment.from_dict({**experiment.to_dict(BASE), "optim": older})
    assert named_by(BASE, "data", 5) == named_by(read, "data", 5)
    assert named_by(BASE, "data", 5) != named_by(BASE.replace({"optim.trainable": "head"}), "data", 5)


def wide(**changes):
    return BASE.replace({"family": Transformer(**{"vocab": 256, "length": 32, "width": 32, "layers": 2, **changes})})


@pytest.mark.parametrize("start, says", [
    (Start(wide()), r"'model/embed/weight' is float32\[256, \d+\] here, and 'model/embed/weight' is float32\[256, 32\] in"),
    (Start(BASE, {"model/layer": "model/layers"}), "'model/layer' names no parameters of this run; nearest: model/layers"),
    (Start(BASE, {"model/layers": "model/blocks"}), "'model/blocks' names no parameters of the run that this one begins"),
    (Start(wide(layers=1), {"model/layers": "model/readout"}),
     "with has no parameter 'model/readout/attention/k/weight' to be 'model/layers/attention/k/weight' here"),
])
def test_parameters_that_do_not_fit_are_refused_with_their_paths_and_shapes(start, says):
    with pytest.raises(ConfigError, match=says) as caught:
        experiment.taken(BASE.replace({"start": start}))
    assert "\n" not in str(caught.value)


def test_parts_may_be_taken_from_other_models():
    found = experiment.taken(wide(layers=1).replace({"start": Start(wide(), {"model/readout": "model/readout"})}))
    assert found == {"model/readout/weight": "model/readout/weight"}
    assert experiment.takes_vocabulary(TUNED)
    assert not experiment.takes_vocabulary(TUNED.replace({"start": Start(BASE, {"model/layers": "model/layers"})}))


@pytest.mark.parametrize("wrong, says", [(3, "start=3 is no Start; write experiment.Start"), (BASE, "is no Start")])
def test_what_is_no_start_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        BASE.replace({"start": wrong})
    with pytest.raises(ConfigError, match="start.takes=3 is no mapping; write {path here: path there}"):
        Start(BASE, 3)
    with pytest.raises(ConfigError, match="data.batch"):
        BASE.replace({"start": Start(BASE), "start.experiment.data.batch": 0})

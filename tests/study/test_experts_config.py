"""configs/experts.py: what its runs share, and the law of experts fitted to records of such runs."""

import dataclasses
import itertools
import pathlib

import numpy as np
import pytest
from planted_laws import EXAMPLES
from sources import tiny

from scaling import cost, laws
from scaling.families.transformer import Transformer
from scaling.results.records import Records
from scaling.study import configs
from scaling.training.counts import counts
from tools._example_laws import register_examples

PATH = f"{pathlib.Path(__file__).parents[2]}/configs/experts.py"
DENSE = "params_active - `family.layers` * `family.width` * `family.experts`"  # without routers


def test_runs_of_a_width_see_equal_data_at_one_rate_and_use_as_many_parameters_but_for_the_router():
    module = configs.load_config(f"{PATH}:quick")
    runs = module.sweep(module.get_config("quick"))
    for width, own in itertools.groupby(runs, lambda run: run.family.width):
        own = list(own)
        assert len({run.family.experts for run in own}) == len(own) > 2
        assert len({(run.data, run.optim) for run in own}) == 1
        routers = [run.family.layers * width * run.family.experts for run in own]
        assert len({cost.active_count(run.family) - router for run, router in zip(own, routers, strict=True)}) == 1


@pytest.mark.slow
def test_the_law_of_experts_is_fitted_to_records(tmp_path):
    """Records of planted losses, with N of the model with one expert, as Clark et al. count."""
    register_examples()
    truth = EXAMPLES["experts"]
    for width in (16, 32, 64, 128):
        for experts in (1, 2, 4, 8, 16, 32):
            f = Transformer(width=width, layers=2, heads=2, experts=experts, top_k=1)
            e = tiny("transformer").replace({"family": f})
            n = cost.param_count(dataclasses.replace(f, experts=0, top_k=2))["non_embedding"]
            log_n, log_e = np.log(n), np.log(experts)
            y = truth["A"] * np.exp(-truth["a"] * log_n - truth["b"] * log_e - truth["c"] * log_n * log_e)
            Records(tmp_path).write({"fingerprint": f"w{width}e{experts}", "family": "transformer", "role": "sweep",
                                     "diverged": False, "loss": float(y), **counts(e, 10**6),
                                     "experiment": {"family": {"experts": experts, "width": width, "layers": 2}}})
    runs = laws.Runs.from_workdir(tmp_path, params=DENSE, experts="family.experts")
    fit = laws.fit(runs, "experts")
    for name in ("a", "b", "c"):
        assert fit.params[name] == pytest.approx(truth[name], abs=2e-3), name

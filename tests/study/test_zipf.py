"""The study of Zipf's facts: slices of equal compute, and, when it is trained, the exponents of theory."""

import subprocess
import sys

import numpy as np
import pytest
from launcher import ROOT

from scaling import cost, laws
from scaling.study import checks, configs


def study(variant):
    path = f"{ROOT}/configs/zipf.py{variant}"
    return configs.define_study(configs.load_config(path), configs.read_config(path))


def test_its_slices_have_equal_compute_and_its_metric_is_known():
    definition = study("")
    checks.check_study(definition)
    spent = np.array([cost.train_flops(e.family, e.data.batch) * e.steps for e in definition.sweep])
    budgets = np.array(definition.config["budgets"]) * 4 * 256       # of FLOPs: width times facts, times 4 answers
    slices = np.abs(np.log(spent[:, None] / budgets)).argmin(-1)
    assert all(np.abs(np.log(spent / budgets[slices])) < 0.03) and all(np.bincount(slices) == 7 * 3)
    assert {e.data.name for e in study(":1.2").sweep} == {"zipf:1.2,contexts=0,answers=256"}


@pytest.mark.slow
@pytest.mark.xfail(reason="a goal that was missed: with one seed beta is 4.6% below theory")
@pytest.mark.skipif("power_mean" not in laws.FORMS, reason="the power mean is no law of this version")
def test_the_exponents_are_those_of_theory_within_three_percent(tmp_path):
    """Six minutes on two idle cores. One seed scatters by 2 to 3% of the excess. The additive law is wrong by far more."""
    subprocess.run([sys.executable, "-m", "experiments.run", f"--config={ROOT}/configs/zipf.py", f"--workdir={tmp_path}"],
                   check=True, cwd=ROOT)
    runs = laws.Runs.from_workdir(tmp_path)

    def exponents(law):
        """Of N, of D, of N* and of the excess in compute."""
        p = laws.fit(runs, law, fix={"E": 0.0}).params
        alpha, beta = p["alpha"], p["beta"]
        return np.array([alpha, beta, beta / (alpha + beta), alpha * beta / (alpha + beta)])

    theory = np.array([1 / 2, 1 / 3, 2 / 5, 1 / 5])
    assert all(np.abs(exponents("power_mean") / theory - 1) < 0.03)
    assert abs(exponents("chinchilla")[2] / theory[2] - 1) > 0.1

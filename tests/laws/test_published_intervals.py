"""The published uncertainties of the Chinchilla points (Besiroglu et al. 2024)."""
import json

import numpy as np
import pandas as pd
import pytest
from reference import FOLDER, case

from scaling.laws import Runs
from scaling.laws.fitting.fit import refit
from scaling.laws.fitting.search import fit
from scaling.laws.intervals.uncertainty import bootstrap

NAMES = ("A", "B", "E", "alpha", "beta")


@pytest.fixture(scope="module")
def epoch():
    data, expected = case("epoch_chinchilla")
    runs = Runs.from_dataframe(data, where="kept", params="model_params", data="train_tokens")
    runs.frame["size"] = np.round(np.log(runs.frame["model_params"]), 2)
    first = json.loads((FOLDER / "epoch_chinchilla" / "bootstrap_first8.json").read_text())
    return fit(runs), {target["name"]: target for target in expected["targets"]}, first


def test_the_published_bootstrap_with_its_own_resamples(epoch):
    """Its notebook draws np.random.seed(42), then 4000 times choice(240). Each resample is solved exactly here."""
    law, targets, first = epoch
    random = np.random.RandomState(42)
    index = np.stack([random.choice(240, 240, replace=True) for _ in range(4000)])
    assert (law.runs.rows[index[:8]] == np.array(first["index"])).all()
    counts = np.stack([np.bincount(row, minlength=240) for row in index]).astype(float)
    draws = pd.DataFrame(refit(law, law.y, counts).vectors, columns=list(law.form.names))
    exact, published = targets["bootstrap_recomputed"], targets["published_table"]
    for name, row in targets["notebook_bootstrap_rows"]["rows"].items():
        assert draws.loc[int(name), list(NAMES)].to_list() == pytest.approx(row, rel=5e-4)
    for i, row in enumerate(first["fit"]):
        assert draws.loc[i, list(NAMES)].to_list() == pytest.approx(row[:5], rel=1e-4)
    for name in NAMES:
        assert draws[name].std() == pytest.approx(exact["se"][name], rel=exact["tol_rel_se"])
        assert draws[name].std() == pytest.approx(published["bootstrap_se"][name], rel=0.03)
        low, high = np.quantile(draws[name], [0.025, 0.975])
        assert (low, high) == pytest.approx(exact["ci95"][name], abs=0.05 * exact["se"][name])
        error = published["bootstrap_se"][name]
        assert (low, high) == pytest.approx(published["ci95"][name], abs=0.1 * error)
    a = draws["beta"] / (draws["alpha"] + draws["beta"])
    assert a.mean() == pytest.approx(exact["a_mean"], abs=2e-4)
    assert a.std() == pytest.approx(exact["a_se"], rel=exact["tol_rel_se"])


def test_the_published_cluster_bootstrap(epoch):
    law, targets, _ = epoch
    published = dict(zip(NAMES, targets["other_uncertainties"]["cluster_bootstrap_by_model_size_se"]))
    boot = bootstrap(law, 4000, cluster="size")
    assert boot.method == "cluster"
    assert boot.standard_errors() == pytest.approx(published, rel=0.1)

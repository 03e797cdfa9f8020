"""The jackknife and the sandwich, and the published uncertainties of the Chinchilla points."""
import json

import numpy as np
import pandas as pd
import pytest
from reference import FOLDER
from simulated import noisy, planted

from scaling.laws import Runs
from scaling.laws.fitting.fit import refit
from scaling.laws.fitting.search import fit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals.jackknife import jackknife, sandwich, sandwich_errors
from scaling.laws.intervals.uncertainty import bootstrap


def test_the_sandwich_of_squares_is_that_of_textbooks():
    """(X'X)^-1 X' diag(r^2) X (X'X)^-1 of a law that is linear in its free parameters (White 1980)."""
    table, mean = planted("saturating_power", 30)
    noise = 0.01 * np.random.default_rng(1).standard_normal(30)
    table = table.assign(loss=mean + noise, group=np.arange(30) // 3)
    law = fit(Runs.from_dataframe(table), "saturating_power", loss="mse", fix={"alpha": 0.25})
    X = np.stack([np.ones(30), table["x"] ** -0.25], axis=1)
    bread = np.linalg.inv(X.T @ X)
    rows = X * law.residuals[:, None]
    groups = rows.reshape(10, 3, 2).sum(1)
    np.testing.assert_allclose(sandwich(law), bread @ rows.T @ rows @ bread, rtol=1e-6)
    np.testing.assert_allclose(sandwich(law, "group"), bread @ groups.T @ groups @ bread, rtol=1e-6)


def test_the_jackknife_leaves_each_run_or_cluster_out():
    law = fit(Runs.from_dataframe(noisy("chinchilla", 25)(np.random.default_rng(3)).assign(
        group=np.tile(np.arange(5), 5))))
    runs, groups = jackknife(law), jackknife(law, "group")
    assert len(runs.values) == 25 and len(groups.values) == 5
    alone = fit(law.runs.select(np.arange(25) != 7, "left out"))
    assert runs.values.loc[7].to_numpy() == pytest.approx(alone.vector, rel=1e-3)
    assert list(groups.influence().index) == [0, 1, 2, 3, 4]
    assert set(groups.standard_errors()) == set(law.form.names)
    assert np.abs(runs.influence().to_numpy()).max() > 0.3
    json.dumps([runs.to_json(), groups.to_json()])
    with pytest.raises(LawError, match="points left for 5 parameters"):
        jackknife(law, np.r_[np.zeros(22), 1, 2, 3])


NAMES = ("A", "B", "E", "alpha", "beta")


@pytest.fixture(scope="module")
def epoch():
    folder = FOLDER / "epoch_chinchilla"
    if not (folder / "expected.json").exists():
        pytest.skip(f"no reference data at {folder}; set SCALING_REFERENCE to the folder that holds it")
    targets = {t["name"]: t for t in json.loads((folder / "expected.json").read_text())["targets"]}
    runs = Runs.from_csv(folder / "data.csv", where="kept", params="model_params", data="train_tokens")
    runs.frame["size"] = np.round(np.log(runs.frame["model_params"]), 2)
    first = json.loads((folder / "bootstrap_first8.json").read_text())
    return fit(runs), targets, first


def test_the_published_bootstrap_with_its_own_resamples(epoch):
    """The notebook's index sets: np.random.seed(42), then 4000 times choice(240); each is solved exactly."""
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


def test_other_published_uncertainties(epoch):
    law, targets, _ = epoch
    other = {key: dict(zip(NAMES, value)) for key, value in targets["other_uncertainties"].items()
             if isinstance(value, list)}
    assert jackknife(law).standard_errors() == pytest.approx(other["jackknife_se"], rel=1e-3)
    sizes = jackknife(law, "size").standard_errors()
    assert sizes == pytest.approx(other["delete_one_model_size_jackknife_se"], rel=1e-3)
    assert sandwich_errors(law) == pytest.approx(other["sandwich_se"], rel=3e-3)  # printed to two digits
    boot = bootstrap(law, 4000, cluster="size")
    assert boot.method == "cluster"
    assert boot.standard_errors() == pytest.approx(other["cluster_bootstrap_by_model_size_se"], rel=0.1)

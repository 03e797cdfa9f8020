"""The laws against published data and fits; skipped where the reference folder is not beside the project."""
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling import laws

FOLDER = Path(os.environ.get("SCALING_REFERENCE", Path(__file__).parents[1] / "../shared/reference"))
COLUMNS = {"params": "model_params", "data": "train_tokens", "loss": "loss"}


def case(name):
    folder = FOLDER / name
    if not (folder / "expected.json").exists():
        pytest.skip(f"no reference data at {folder}; set SCALING_REFERENCE to the folder that holds {name}")
    return pd.read_csv(folder / "data.csv"), json.loads((folder / "expected.json").read_text())


@pytest.fixture
def epoch():
    data, expected = case("epoch_chinchilla")
    return data, {t["name"]: t for t in expected["targets"]}


def agrees(law, target, scale=1.0):
    for name, tolerance in target["tol_rel"].items():
        if name in law.params:
            assert law.params[name] == pytest.approx(target["values"][name], rel=tolerance), name
    for name in ("objective", "sse_log", "rss", "sum_huber"):
        if name in target["values"]:
            assert law.objective * scale <= target["values"][name] * (1 + 1e-7), name


@pytest.mark.parametrize("target, rows, options, scale", [
    ("notebook_grid_best", "kept", {}, 1), ("true_optimum", "kept", {}, 1), ("all_245_rows", "all", {}, 1),
    ("mse_linear_vp", "kept", {"space": "linear", "delta": np.inf}, 2),
    ("mse_log", "kept", {"delta": np.inf}, 2),
    ("huber_linear", "kept", {"space": "linear"}, 1)])
def test_chinchilla_optima(epoch, target, rows, options, scale):
    data, targets = epoch
    law = laws.fit(data[data.kept] if rows == "kept" else data, **COLUMNS, **options)
    agrees(law, targets[target], scale)  # least squares here is half the sum of squares
    if target == "true_optimum":
        exact = targets[target]
        assert law.objective == pytest.approx(exact["values"]["objective"], rel=exact["tol_objective_rel"])
        optimum = targets["compute_optimal_at_5.76e23"]
        best = laws.frontier(law, 5.76e23).iloc[0]
        assert best.params == pytest.approx(optimum["values"]["N"], rel=optimum["tol_rel"])
        assert best.data == pytest.approx(optimum["values"]["D"], rel=optimum["tol_rel"])
        for name, error in targets["published_table"]["bootstrap_se"].items():
            assert abs(law.params[name] - targets["published_table"]["values"][name]) < 0.1 * error


def test_eight_resamples_reach_their_exact_optima(epoch):
    data, _ = epoch
    first = json.loads((FOLDER / "epoch_chinchilla" / "bootstrap_first8.json").read_text())
    for index, values in zip(first["index"], first["fit"]):
        law, exact = laws.fit(data.loc[index], **COLUMNS), dict(zip(first["columns"], [*values]))
        assert law.objective == pytest.approx(values[-1], rel=1e-9)
        for name in law.params:
            assert law.params[name] == pytest.approx(exact[name], rel=1e-5)


def test_the_notebooks_printed_rows(epoch):
    data, targets = epoch
    first = json.loads((FOLDER / "epoch_chinchilla" / "bootstrap_first8.json").read_text())
    rows = targets["notebook_bootstrap_rows"]
    for i, values in rows["rows"].items():
        law = laws.fit(data.loc[first["index"][int(i)]], **COLUMNS)
        found = [law.params[name] for name in ("A", "B", "E", "alpha", "beta")]
        assert found == pytest.approx(values, rel=rows["tol_rel"])


def test_bootstrap_errors_and_intervals_are_the_published_ones(epoch):
    data, targets = epoch
    law = laws.fit(data[data.kept], **COLUMNS)
    boot = laws.bootstrap(law, 4000, seed=3)
    assert boot.method == "case"
    for target in (targets["published_table"]["bootstrap_se"], targets["bootstrap_recomputed"]["se"]):
        assert boot.standard_errors() == pytest.approx(target, rel=0.1)
    a = boot.draws.beta / (boot.draws.alpha + boot.draws.beta)
    assert a.mean() == pytest.approx(targets["bootstrap_recomputed"]["a_mean"], abs=0.002)
    assert a.std() == pytest.approx(targets["bootstrap_recomputed"]["a_se"], rel=0.1)
    for name, (low, high) in targets["published_table"]["ci95"].items():
        error = targets["published_table"]["bootstrap_se"][name]
        assert boot.interval(name, 0.95) == pytest.approx((low, high), abs=0.4 * error)
    clustered = laws.bootstrap(law.__class__(**{**law.__dict__, "points": law.points.assign(
        size=np.round(np.log(law.points.model_params), 2))}), 4000, cluster="size")
    expected = dict(zip(("A", "B", "E", "alpha", "beta"),
                        targets["other_uncertainties"]["cluster_bootstrap_by_model_size_se"]))
    assert clustered.standard_errors() == pytest.approx(expected, rel=0.1)


def test_the_jackknife_and_the_published_parameters_objective(epoch):
    data, targets = epoch
    law = laws.fit(data[data.kept], **COLUMNS)
    n = len(law.points)
    left = laws.uncertainty.refit(law, law.loss, 1 - np.eye(n)).vectors
    spread = dict(zip(law.form.names, np.sqrt((n - 1) * left.var(0))))
    expected = dict(zip(("A", "B", "E", "alpha", "beta"), targets["other_uncertainties"]["jackknife_se"]))
    assert spread == pytest.approx(expected, rel=2e-3)
    assert np.mean(np.abs(law.residuals) < law.delta) == pytest.approx(
        targets["other_uncertainties"]["share_residuals_inside_delta"], abs=1e-6)


def test_holding_out_the_largest_compute(epoch):
    data, targets = epoch
    kept, target = data[data.kept], targets["hold_out_largest_compute"]
    for row in target["rows"]:
        small, large = kept[kept.flops < row["cut"]], kept[kept.flops >= row["cut"]]
        assert (len(small), len(large)) == (row["n_fit"], row["n_test"])
        for name, options in (("huber", {}), ("mse_linear", {"space": "linear", "delta": np.inf})):
            law = laws.fit(small, **COLUMNS, **options)
            ratio = law.predict(large.model_params, large.train_tokens) / large.loss.to_numpy() - 1
            p = law.params
            found = {"a": p["beta"] / (p["alpha"] + p["beta"]), "E": p["E"],
                     "mape": np.abs(ratio).mean(), "bias": ratio.mean()}
            for key, value in row[name].items():
                assert found[key] == pytest.approx(value, abs=target["tol_abs"][key]), (row["cut"], name, key)


def test_sixteen_isoflop_data_sets():
    data, expected = case("isoflops_open_athena")
    assert len(expected["targets"]) == 16
    for target in expected["targets"]:
        points = data[(data.group == target["group"]) & ((target["subset"] == "all") | ~data.outlier)]
        assert len(points) == target["n"]
        for name, options, scale in (("vp_mse", {"space": "linear", "delta": np.inf}, 2),
                                     ("mse_log", {"delta": np.inf}, 2), ("huber_log_1e3", {}, 1)):
            agrees(laws.fit(points, **COLUMNS, **options), target[name], scale)

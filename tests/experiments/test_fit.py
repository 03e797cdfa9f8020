"""experiments.fit from the command line: it writes the fit that was asked for, and keeps what is there."""
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from forked_command import ROOT
from planted_table import TRUTH, table, table_of

from scaling import laws


@pytest.fixture
def points(tmp_path):
    table(noise=0.003).to_csv(tmp_path / "points.csv", index=False)
    return "--points=points.csv"


def read(path):
    return json.loads(path.read_text())


# --------------------------------------------------------------------------------------------- what it writes

def test_a_planted_law_is_printed_and_written(fit_command, tmp_path):
    table().to_csv(tmp_path / "points.csv", index=False)
    ran = fit_command("--points=points.csv", "--output=fits/one")
    assert (ran.code, ran.err) == (0, "")
    content = read(tmp_path / "fits/one/fit.json")
    assert content["params"] == pytest.approx(TRUTH, rel=1e-5)
    assert all(name in ran.out for name in TRUTH) and "0.34" in ran.out
    assert content["modes"][0]["params"] == pytest.approx(TRUTH, rel=1e-5)
    assert content["manifest"]["points"] == 30 and content["made"]["command"].endswith("--output=fits/one")


def test_intervals_standard_errors_and_the_whole_analysis(fit_command, tmp_path):
    C = np.repeat([1e19, 1e20, 1e21], 10)                      # slices of equal compute
    N = np.sqrt(C / 120) * np.tile(np.geomspace(0.2, 4, 10), 3)
    table_of(N, C / (6 * N), noise=0.003).to_csv(tmp_path / "points.csv", index=False)
    ran = fit_command("--points=points.csv", "--bootstrap=100", "--cluster=group", "--holdout_compute=5e20",
                  "--compare=tied_chinchilla", "--isoflop", "--frontier=1e21,1e22", "--figures",
                  "--output=all", "--level=0.8")
    assert ran.code == 0, ran.err
    content = read(tmp_path / "all/fit.json")
    law = laws.fit(tmp_path / "points.csv")
    boot = laws.bootstrap(law, 100, cluster="group")
    assert content["params"] == pytest.approx(law.params)
    assert content["standard_errors"] == pytest.approx(boot.standard_errors())
    for name in TRUTH:
        assert content["intervals"][name] == pytest.approx(boot.interval(name, 0.8))
    assert {row["law"] for row in content["holdout"]["table"]} == {"chinchilla", "tied_chinchilla"}
    assert [row["flops"] for row in content["frontier"]] == [1e21, 1e22]
    assert content["comparison"]["table"] and content["isoflop"]["table"]
    there = {path.name for path in (tmp_path / "all").iterdir()}
    figures = ("fit", "residuals", "parameters", "holdout", "isoflop", "frontier")
    assert there == {"fit.json", *(f"{name}.png" for name in figures)}


def test_a_written_fit_is_loaded_again(fit_command, points, tmp_path):
    assert fit_command(points, "--fix=E=1.7", "--tie=beta=alpha", "--bounds=alpha=0.1:1", "--loss=mse_log",
                   "--output=fit").code == 0
    law = laws.load_fit(tmp_path / "fit/fit.json")
    assert law.params["E"] == 1.7 and law.params["alpha"] == law.params["beta"]
    assert law.spec.name == "mse_log" and law.form.free == ("A", "B", "alpha")
    again = laws.fit(tmp_path / "points.csv", fix={"E": 1.7}, tie={"beta": "alpha"}, loss="mse_log")
    assert law.params == pytest.approx(again.params, rel=1e-6)


def test_profiles_are_printed_and_written(fit_command, tmp_path):
    x = np.geomspace(1e3, 1e7, 10)
    pd.DataFrame({"width": x, "err": 3 * x ** -0.3 * np.exp(0.02 * np.cos(np.arange(10)))}).to_csv(
        tmp_path / "p.csv", index=False)
    ran = fit_command("--points=p.csv", "--law=power", "--inputs=x=width", "--y=err", "--loss=mse_log",
                  "--profile", "--output=fit")
    assert ran.code == 0, ran.err
    profiles = read(tmp_path / "fit/fit.json")["profiles"]
    assert [one["parameter"] for one in profiles] == ["A", "alpha"]
    low, high = profiles[1]["interval"]
    assert low < 0.3 < high and f"alpha        [{low:.5g}, {high:.5g}]" in ran.out


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_tables_of_any_kind_give_the_same_fit(fit_command, points, tmp_path, suffix):
    frame = pd.read_csv(tmp_path / "points.csv")
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="pandas reads Parquet through pyarrow")
        frame.to_parquet(tmp_path / "points.parquet")
    elif suffix == "tsv":
        frame.to_csv(tmp_path / "points.tsv", sep="\t", index=False)
    else:
        frame.to_json(tmp_path / "points.jsonl", orient="records", lines=True, double_precision=15)
    assert fit_command(points, "--output=one").code == 0
    assert fit_command(f"--points=points.{suffix}", "--output=two").code == 0
    one, two = (read(tmp_path / name / "fit.json")["params"] for name in ("one", "two"))
    assert one == pytest.approx(two, rel=1e-6)


def test_columns_and_rows_are_options(fit_command, tmp_path):
    frame = table().rename(columns={"params": "size", "tokens": "seen", "loss": "bits"}).assign(kept=True)
    frame.loc[[2, 7], ["bits", "kept"]] = [[9.0, False], [float("nan"), False]]
    frame.to_csv(tmp_path / "points.csv", index=False)
    assert fit_command("--points=points.csv", "--params=size", "--data=seen", "--y=bits",
                   "--where=kept and bits < 5", "--output=fit").code == 0
    content = read(tmp_path / "fit/fit.json")
    assert content["params"] == pytest.approx(TRUTH, rel=1e-5)
    assert [gone["row"] for gone in content["manifest"]["dropped"]] == [2, 7]


def test_seeds_become_one_run_with_their_weight(fit_command, tmp_path):
    frame = table(noise=0.01)
    pd.concat([frame, frame.iloc[:10].assign(loss=frame["loss"] * 1.01)]).to_csv(
        tmp_path / "points.csv", index=False)
    assert fit_command("--points=points.csv", "--average", "--loss=mse", "--output=fit").code == 0
    content = read(tmp_path / "fit/fit.json")
    assert content["weights"] == [2.0] * 10 + [1.0] * 20
    assert content["points"][0]["loss"] == pytest.approx(1.005 * frame["loss"][0])


def test_the_runs_of_a_study_are_fitted(fit_command, tmp_path):
    from report_study import LAW, fill
    fill(tmp_path / "study")
    before = (tmp_path / "study/fit.json").read_bytes()
    ran = fit_command("--workdir=study", "--where=flops > 0", "--output=fit")
    assert ran.code == 0, ran.err
    content = read(tmp_path / "fit/fit.json")
    assert content["params"]["alpha"] == pytest.approx(LAW["alpha"], rel=0.3)
    assert content["manifest"]["source"]["kind"] == "workdir"
    assert fit_command("--workdir=study", "--output=study").code == 1     # the study's own fit.json stays
    assert (tmp_path / "study/fit.json").read_bytes() == before


def test_every_law_is_listed_with_its_formula(fit_command):
    ran = fit_command("--law=list")
    assert ran.code == 0
    for name, form in laws.FORMS.items():
        assert f"{name}: {form.formula}" in ran.out and form.source in ran.out


def test_without_an_output_nothing_is_written(fit_command, points, tmp_path):
    before = set(tmp_path.iterdir())
    assert fit_command(points).code == 0
    assert set(tmp_path.iterdir()) - before == {tmp_path / ".out", tmp_path / ".err"}


def test_rows_that_repeat_another_are_a_warning(fit_command, points, tmp_path):
    frame = pd.read_csv(tmp_path / "points.csv")
    pd.concat([frame, frame.iloc[[4]]]).to_csv(tmp_path / "points.csv", index=False)
    ran = fit_command(points)
    assert ran.code == 0 and "row 30 is row 4" in ran.out


# ------------------------------------------------------------------------------------ nothing there is lost

def test_another_fit_is_not_overwritten_unless_asked(fit_command, points, tmp_path):
    assert fit_command(points, "--output=fit").code == 0
    (tmp_path / "fit/residuals.png").write_bytes(b"a figure of this fit")
    before = {path.name: path.read_bytes() for path in (tmp_path / "fit").iterdir()}
    refused = fit_command(points, "--output=fit", "--loss=mse")
    assert refused.code == 1 and "--overwrite" in refused.err and refused.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "fit").iterdir()} == before
    assert fit_command(points, "--output=fit").code == 0      # the same fit may be made again
    assert (tmp_path / "fit/residuals.png").exists()
    assert fit_command(points, "--output=fit", "--loss=mse", "--overwrite").code == 0
    assert read(tmp_path / "fit/fit.json")["loss"] == "mse"
    there = {path.name for path in (tmp_path / "fit").iterdir()}
    assert there == {"fit.json"}                          # no figures of the fit that was there


def test_files_of_others_in_the_directory_stay(fit_command, points, tmp_path):
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit/notes.txt").write_text("mine")
    assert fit_command(points, "--output=fit").code == 0
    assert (tmp_path / "fit/notes.txt").read_text() == "mine"
    (tmp_path / "fit/fit.json").write_text("{ not JSON")
    assert "--overwrite" in fit_command(points, "--output=fit").err


# ------------------------------------------------------------------------------------------------ the command

def test_nothing_slow_is_imported_before_the_table():
    slow = {"jax", "scipy", "matplotlib", "tensorflow_datasets", "scaling.report"}
    code = f"import sys; from experiments import fit; print(sorted({slow} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_help_shows_examples_and_every_flag():
    ran = subprocess.run([sys.executable, "-m", "experiments.fit", "--help"], cwd=ROOT, capture_output=True,
                         text=True)
    for flag in ("points", "law", "y", "params", "data", "where", "loss", "delta", "bootstrap", "cluster",
                 "holdout_compute", "output", "overwrite", "profile", "compare", "isoflop", "frontier", "fix",
                 "tie", "bounds", "quantile", "form", "each", "isoflop_curve", "isoflop_budgets"):
        assert f"--{flag}" in ran.stdout or f"--[no]{flag}" in ran.stdout, flag
    assert ran.stdout.count("python -m experiments.fit --points") == 3

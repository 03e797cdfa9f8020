"""experiments.fit from the command line: what it writes, what it refuses, and that a refusal is one sentence
and no files.

One Python imports the command once and then forks for every call (`command`), so that many calls take
seconds."""
import json
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from scaling import laws

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
SERVER = """
import json, os, sys
from experiments import _points, fit
for line in sys.stdin:
    arguments, folder = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["fit", *arguments]
        _points.run(fit.main)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Ran:
    def __init__(self, code: int, folder):
        self.code = code
        self.out, self.err = ((folder / name).read_text() for name in ("out", "err"))


@pytest.fixture(scope="module")
def server():
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def command(server, tmp_path):
    """command("--law=power", ...) -> what a call in tmp_path did; --bootstrap=0 and --nofigures unless asked
    for."""
    def call(*arguments: str) -> Ran:
        flags = ["--nofigures", "--bootstrap=0", *arguments]
        server.stdin.write(json.dumps([flags, str(tmp_path)]) + "\n")
        server.stdin.flush()
        return Ran(int(server.stdout.readline()), tmp_path)
    return call


def runs(N, D, noise=0.0):
    """Runs of a planted law, with columns whose names need no options."""
    loss = TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
    loss = loss * np.exp(noise * np.random.default_rng(0).standard_normal(N.shape))
    return pd.DataFrame({"params": N, "tokens": D, "flops": 6 * N * D, "loss": loss,
                         "group": [f"size {i % 6}" for i in range(len(N))]})


def table(noise=0.0):
    N, D = np.meshgrid(np.geomspace(2e7, 2e9, 6), np.geomspace(1e9, 3e10, 5))
    return runs(N.ravel(), D.ravel(), noise)


@pytest.fixture
def points(tmp_path):
    table(noise=0.003).to_csv(tmp_path / "points.csv", index=False)
    return "--points=points.csv"


def read(path):
    return json.loads(path.read_text())


# --------------------------------------------------------------------------------------------- what it writes

def test_a_planted_law_is_printed_and_written(command, tmp_path):
    table().to_csv(tmp_path / "points.csv", index=False)
    ran = command("--points=points.csv", "--output=fits/one")
    assert (ran.code, ran.err) == (0, "")
    content = read(tmp_path / "fits/one/fit.json")
    assert content["params"] == pytest.approx(TRUTH, rel=1e-5)
    assert all(name in ran.out for name in TRUTH) and "0.34" in ran.out
    assert content["modes"][0]["params"] == pytest.approx(TRUTH, rel=1e-5)
    assert content["manifest"]["points"] == 30 and content["made"]["command"].endswith("--output=fits/one")


def test_intervals_standard_errors_and_the_whole_analysis(command, tmp_path):
    C = np.repeat([1e19, 1e20, 1e21], 10)                      # slices of equal compute
    N = np.sqrt(C / 120) * np.tile(np.geomspace(0.2, 4, 10), 3)
    runs(N, C / (6 * N), noise=0.003).to_csv(tmp_path / "points.csv", index=False)
    ran = command("--points=points.csv", "--bootstrap=100", "--cluster=group", "--holdout_compute=5e20",
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


def test_a_written_fit_is_loaded_again(command, points, tmp_path):
    assert command(points, "--fix=E=1.7", "--tie=beta=alpha", "--bounds=alpha=0.1:1", "--loss=mse_log",
                   "--output=fit").code == 0
    law = laws.load_fit(tmp_path / "fit/fit.json")
    assert law.params["E"] == 1.7 and law.params["alpha"] == law.params["beta"]
    assert law.spec.name == "mse_log" and law.form.free == ("A", "B", "alpha")
    again = laws.fit(tmp_path / "points.csv", fix={"E": 1.7}, tie={"beta": "alpha"}, loss="mse_log")
    assert law.params == pytest.approx(again.params, rel=1e-6)


def test_profiles_are_printed_and_written(command, tmp_path):
    x = np.geomspace(1e3, 1e7, 10)
    pd.DataFrame({"width": x, "err": 3 * x ** -0.3 * np.exp(0.02 * np.cos(np.arange(10)))}).to_csv(
        tmp_path / "p.csv", index=False)
    ran = command("--points=p.csv", "--law=power", "--inputs=x=width", "--y=err", "--loss=mse_log",
                  "--profile", "--output=fit")
    assert ran.code == 0, ran.err
    profiles = read(tmp_path / "fit/fit.json")["profiles"]
    assert [one["parameter"] for one in profiles] == ["A", "alpha"]
    low, high = profiles[1]["interval"]
    assert low < 0.3 < high and f"alpha        [{low:.5g}, {high:.5g}]" in ran.out


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_tables_of_any_kind_give_the_same_fit(command, points, tmp_path, suffix):
    frame = pd.read_csv(tmp_path / "points.csv")
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="pandas reads Parquet through pyarrow")
        frame.to_parquet(tmp_path / "points.parquet")
    elif suffix == "tsv":
        frame.to_csv(tmp_path / "points.tsv", sep="\t", index=False)
    else:
        frame.to_json(tmp_path / "points.jsonl", orient="records", lines=True, double_precision=15)
    assert command(points, "--output=one").code == 0
    assert command(f"--points=points.{suffix}", "--output=two").code == 0
    one, two = (read(tmp_path / name / "fit.json")["params"] for name in ("one", "two"))
    assert one == pytest.approx(two, rel=1e-6)


def test_columns_and_rows_are_options(command, tmp_path):
    frame = table().rename(columns={"params": "size", "tokens": "seen", "loss": "bits"}).assign(kept=True)
    frame.loc[[2, 7], ["bits", "kept"]] = [[9.0, False], [float("nan"), False]]
    frame.to_csv(tmp_path / "points.csv", index=False)
    assert command("--points=points.csv", "--params=size", "--data=seen", "--y=bits",
                   "--where=kept and bits < 5", "--output=fit").code == 0
    content = read(tmp_path / "fit/fit.json")
    assert content["params"] == pytest.approx(TRUTH, rel=1e-5)
    assert [gone["row"] for gone in content["manifest"]["dropped"]] == [2, 7]


def test_seeds_become_one_run_with_their_weight(command, tmp_path):
    frame = table(noise=0.01)
    pd.concat([frame, frame.iloc[:10].assign(loss=frame["loss"] * 1.01)]).to_csv(
        tmp_path / "points.csv", index=False)
    assert command("--points=points.csv", "--average", "--loss=mse", "--output=fit").code == 0
    content = read(tmp_path / "fit/fit.json")
    assert content["weights"] == [2.0] * 10 + [1.0] * 20
    assert content["points"][0]["loss"] == pytest.approx(1.005 * frame["loss"][0])


def test_the_runs_of_a_study_are_fitted(command, tmp_path):
    from report_study import LAW, fill
    fill(tmp_path / "study")
    before = (tmp_path / "study/fit.json").read_bytes()
    ran = command("--workdir=study", "--where=flops > 0", "--output=fit")
    assert ran.code == 0, ran.err
    content = read(tmp_path / "fit/fit.json")
    assert content["params"]["alpha"] == pytest.approx(LAW["alpha"], rel=0.3)
    assert content["manifest"]["source"]["kind"] == "workdir"
    assert command("--workdir=study", "--output=study").code == 1     # the study's own fit.json stays
    assert (tmp_path / "study/fit.json").read_bytes() == before


def test_every_law_is_listed_with_its_formula(command):
    ran = command("--law=list")
    assert ran.code == 0
    for name, form in laws.FORMS.items():
        assert f"{name}: {form.formula}" in ran.out and form.source in ran.out


def test_without_an_output_nothing_is_written(command, points, tmp_path):
    before = set(tmp_path.iterdir())
    assert command(points).code == 0
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "out", tmp_path / "err"}


def test_rows_that_repeat_another_are_a_warning(command, points, tmp_path):
    frame = pd.read_csv(tmp_path / "points.csv")
    pd.concat([frame, frame.iloc[[4]]]).to_csv(tmp_path / "points.csv", index=False)
    ran = command(points)
    assert ran.code == 0 and "row 30 is row 4" in ran.out


# ---------------------------------------------------------------------------------- what is there is not lost

def test_another_fit_is_not_overwritten_unless_asked(command, points, tmp_path):
    assert command(points, "--output=fit").code == 0
    (tmp_path / "fit/residuals.png").write_bytes(b"a figure of this fit")
    before = {path.name: path.read_bytes() for path in (tmp_path / "fit").iterdir()}
    refused = command(points, "--output=fit", "--loss=mse")
    assert refused.code == 1 and "--overwrite" in refused.err and refused.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "fit").iterdir()} == before
    assert command(points, "--output=fit").code == 0      # the same fit may be made again
    assert (tmp_path / "fit/residuals.png").exists()
    assert command(points, "--output=fit", "--loss=mse", "--overwrite").code == 0
    assert read(tmp_path / "fit/fit.json")["loss"] == "mse"
    there = {path.name for path in (tmp_path / "fit").iterdir()}
    assert there == {"fit.json"}                          # no figures of the fit that was there


def test_files_of_others_in_the_directory_stay(command, points, tmp_path):
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit/notes.txt").write_text("mine")
    assert command(points, "--output=fit").code == 0
    assert (tmp_path / "fit/notes.txt").read_text() == "mine"
    (tmp_path / "fit/fit.json").write_text("{ not JSON")
    assert "--overwrite" in command(points, "--output=fit").err


# -------------------------------------------------------------------------------------------------- bad input

def change(rows, column, value):
    frame = table(noise=0.003)
    frame.loc[rows, column] = value
    return frame


BAD = {  # name: (the table, flags, exit status, words of the sentence)
    "no such column": (table(), ["--y=lss"], 1, ["'lss'", "params, tokens, flops, loss, group"]),
    "negative loss": (change([3], "loss", -1.0), [], 1, ["'loss'", "row 3"]),
    "zero parameters": (change([5], "params", 0.0), [], 1, ["'params'", "row 5"]),
    "NaN": (change([4, 6], "loss", float("nan")), [], 1, ["'loss'", "2 of 30", "row 4"]),
    "two points": (table()[:2], [], 1, ["2 points", "5 parameters"]),
    "one level": (change(slice(None), "tokens", 1e9), [], 1, ["'tokens'", "single value", "1e+09"]),
    "text for numbers": (change([2], "group", "x").assign(params="many"), [], 1, ["'params'", "not numeric"]),
    "unknown law": (table(), ["--law=chinchila"], 1, ["'chinchila'", "'chinchilla'"]),
    "unknown loss": (table(), ["--loss=huber_lag"], 1, ["'huber_lag'", "'huber_log'"]),
    "no rows left": (table(), ["--where=loss > 99"], 1, ["no run", "loss > 99"]),
    "where is no expression": (table(), ["--where=loss >"], 1, ["loss >", "columns are"]),
    "where names no column": (table(), ["--where=los > 1"], 1, ["los", "columns are"]),
    "empty table": (table()[:0], [], 1, ["0 points"]),
    "fixes what is not there": (table(), ["--fix=gamma=1"], 1, ["'gamma'", "E, A, B, alpha, beta"]),
    "bounds reversed": (table(), ["--bounds=alpha=1:0.1"], 1, ["alpha", "low < high"]),
    "no such cluster": (table(0.01), ["--cluster=grp", "--bootstrap=10"], 1, ["'grp'", "columns are"]),
    "no such groups": (table(0.01), ["--by=grp"], 1, ["'grp'", "columns are"]),
    "no such weights": (table(), ["--weights=w"], 1, ["'w'", "columns are"]),
    "cut above all": (table(0.01), ["--holdout_compute=1e30"], 1, ["1e+30"]),
    "compares with what is not there": (table(0.01), ["--compare=kaplann"], 1, ["'kaplann'", "'kaplan'"]),
    "a level of 2": (table(0.01), ["--level=2", "--bootstrap=10"], 1, ["level"]),
    "a fix without a value": (table(), ["--fix=E"], 2, ["--fix", "'E'"]),
    "delta of no kind": (table(), ["--delta=small"], 2, ["--delta", "'small'"]),
    "budgets that are no numbers": (table(0.01), ["--frontier=big"], 2, ["--frontier", "'big'"]),
    "unknown flag": (table(), ["--holdout_compite=1e19"], 2, ["holdout_compite", "holdout_compute"]),
    "two sources": (table(), ["--workdir=."], 2, ["--points", "--workdir"]),
    "a stray word": (table(), ["chinchilla"], 2, ["'chinchilla'"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(command, tmp_path, name):
    frame, flags, code, words = BAD[name]
    frame.to_csv(tmp_path / "points.csv", index=False)
    ran = command("--points=points.csv", "--output=fit", *flags)
    assert ran.code == code, ran.err or ran.out
    assert ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran.err
    assert all(word in ran.err for word in words), ran.err
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize(("file", "content", "words"), [
    ("nowhere.csv", None, ["nowhere.csv"]), ("notes.txt", b"a,b\n1,2\n", ["notes.txt", ".csv"]),
    ("image.csv", b"\x89PNG\r\n\x00\xff\xfe", ["image.csv"]), ("empty.csv", b"", ["empty.csv"]),
    ("broken.jsonl", b'{"a": 1\n', ["broken.jsonl"]), ("broken.parquet", b"PAR1", ["broken.parquet"]),
])
def test_files_that_are_no_tables(command, tmp_path, file, content, words):
    if content is not None:
        (tmp_path / file).write_bytes(content)
    ran = command(f"--points={file}", "--output=fit")
    assert ran.code == 1 and ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran.err
    assert all(word in ran.err for word in words)
    assert not (tmp_path / "fit").exists()


def test_an_output_that_is_a_file_is_refused_first(command, points, tmp_path):
    (tmp_path / "fit").write_text("mine")
    ran = command("--points=nowhere.csv", "--output=fit")
    assert ran.code == 1 and "is a file" in ran.err
    assert (tmp_path / "fit").read_text() == "mine"


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
                 "tie", "bounds", "quantile"):
        assert f"--{flag}" in ran.stdout or f"--[no]{flag}" in ran.stdout, flag
    assert ran.stdout.count("python -m experiments.fit --points") == 2

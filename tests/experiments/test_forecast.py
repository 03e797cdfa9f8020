"""experiments.forecast from the command line: it writes and checks forecasts without JAX, and refusals leave no
files."""
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from forked_command import ROOT, forked

from scaling import laws
from scaling.laws.forecasts import forecast
from scaling.results import records

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
def surface(N, D):
    return TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]


def table():
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 2e9, 5), np.geomspace(1e9, 3e10, 4)))
    rng = np.random.default_rng(0)
    loss = surface(N, D) * np.exp(0.004 * rng.standard_normal(20))
    error = 0.95 - 1.9 * np.exp(-0.6 * loss) + 0.004 * rng.standard_normal(20)
    return pd.DataFrame({"model_params": N, "train_tokens": D, "flops": 6 * N * D, "loss": loss,
                         "error": error, "good": True})


@pytest.fixture(scope="module")
def server():
    """The command in a Python that cannot import JAX, with the modules that it imports late."""
    with forked("forecast", "sys.modules['jax'] = None\nimport scipy.optimize, scipy.stats\n"
                            "from scaling.laws.figures import forecasts\nfrom scaling.results import tuned") as call:
        yield call


@pytest.fixture
def command(server, tmp_path):
    """command("--check=f.json", ...) -> (exit status, output, errors) of a call in tmp_path, beside points.csv."""
    table().to_csv(tmp_path / "points.csv", index=False)

    def call(*arguments):
        ran = server(["--bootstrap=60", "--nofigure", *arguments], tmp_path)
        return ran.code, ran.out, ran.err
    return call


def there(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


ASK = ["--points=points.csv", "--target=N=1e10,D=1e11", "--output=f.json"]


def test_a_rule_chooses_the_law_and_the_file_says_how(command, tmp_path):
    code, said, error = command(*ASK, "--law=best")
    content = forecast.read(tmp_path / "f.json")
    assert (code, error) == (0, "") and content["chosen"]["rule"] == "best" and content["form"] == content["chosen"]["law"]
    assert "laws, fitted below" in said and "spread of the laws" in said and content["parts"]["total"] > 0
    assert command("--check=f.json", f"--observed={content['predicted']}")[0] == 0
    code, _, error = command(*ASK[:2], "--law=stacked", "--link=downstream", "--metric=error")
    assert code == 2 and "chooses a law of one step" in error


def test_from_a_table_to_a_verdict(command, tmp_path):
    code, said, error = command(*ASK, "--figure")
    content = forecast.read(tmp_path / "f.json")
    assert (code, error) == (0, "") and there(tmp_path) == ["f.json", "f.png", "forecasts.jsonl", "points.csv"]
    law = laws.fit(table())
    assert content["predicted"] == pytest.approx(law.predict(1e10, 1e11), rel=1e-9)
    assert content["target"] == {"model_params": 1e10, "train_tokens": 1e11} and len(content["records"]) == 20
    assert f"{content['predicted']:.5g}" in said and content["hash"] in said
    assert f"{content['compute_ratio']:.3g} times the compute" in said
    before = (tmp_path / "f.png").read_bytes()
    assert before.startswith(b"\x89PNG")

    row = {"model_params": 1e10, "train_tokens": 1e11, "flops": 6e21, "loss": surface(1e10, 1e11)}
    pd.concat([table(), pd.DataFrame([row])]).to_csv(tmp_path / "points.csv", index=False)
    code, said, error = command("--check=f.json", "--figure")
    result = json.loads((tmp_path / "f_check.json").read_text())
    assert (code, error) == (0, "") and said.strip() == result["verdict"]
    assert result["observed"] == row["loss"] and result["inside"]
    assert (tmp_path / "f.png").read_bytes() != before  # now with the observation
    code, _, error = command("--check=f.json", "--observed=3")
    assert code == 1 and "a forecast is checked once" in error


def test_a_forecast_stays_and_its_table_is_watched(command, tmp_path):
    assert command(*ASK)[0] == 0
    before = (tmp_path / "f.json").read_bytes()
    code, _, error = command(*ASK[:1], "--target=N=2e10,D=1e11", ASK[2])
    assert code == 1 and "never overwritten" in error and (tmp_path / "f.json").read_bytes() == before
    table().assign(good=[False] + [True] * 19).to_csv(tmp_path / "points.csv", index=False)
    code, _, error = command("--check=f.json", "--observed=2")
    assert code == 1 and "changed: row 0" in error and error.count("\n") == 1
    table().to_parquet(tmp_path / "moved.parquet")
    (tmp_path / "points.csv").unlink()
    code, _, error = command("--check=f.json", "--observed=2")
    assert code == 1 and "points.csv is not there" in error
    assert there(tmp_path) == ["f.json", "forecasts.jsonl", "moved.parquet"]
    assert command("--check=f.json", "--observed=2", "--points=moved.parquet")[0] == 0


def test_a_deleted_forecast_or_log_leaves_a_trace(command, tmp_path):
    assert command(*ASK)[0] == 0
    (tmp_path / "f.json").unlink()
    code, said, _ = command(*ASK)
    assert code == 0 and "! This forecast was registered again: f.json had been registered at" in said
    assert command("--check=f.json", "--observed=2.2")[0] == 0
    for path in ("f.json", "f_check.json"):
        (tmp_path / path).unlink()
    code, _, error = command(*ASK)
    assert code == 1 and "the log says that the target was observed as 2.2 at" in error
    code, _, error = command(*ASK[:2], "--output=g.json")
    assert code == 1 and "the log says that the target was observed as 2.2 at" in error
    assert command(ASK[0], "--target=N=2e10,D=1e11", ASK[2])[0] == 0
    (tmp_path / "forecasts.jsonl").unlink()
    code, said, _ = command("--check=f.json", "--observed=2.2")
    assert code == 0 and "No verdict: forecasts.jsonl, in which f.json was registered, is gone." in said


def test_columns_rows_and_the_law_are_options(command, tmp_path):
    renamed = table().rename(columns={"model_params": "size", "loss": "bpb"})
    renamed.assign(good=[True] * 19 + [False]).to_json(tmp_path / "runs.jsonl", orient="records", lines=True)
    code, said, _ = command(
        "--points=runs.jsonl", "--y=bpb", "--params=size", "--where=good", "--loss=mse_log", "--fix=E=1.69",
        "--law=chinchilla", "--target=size=1e10,D=1e11", "--level=0.8", "--output=f.json")
    content = forecast.read(tmp_path / "f.json")
    assert code == 0 and "19 runs" in said and "80% [" in said and content["metric"] == "bpb"
    assert content["fit"]["params"]["E"] == 1.69 and content["objective"]["name"] == "mse_log"
    assert len(content["records"]) == 20 and len(content["manifest"]["dropped"]) == 1  # all rows are records
    code, _, error = command("--points=runs.jsonl", "--y=bpb", "--params=size", "--where=good",
                             "--target=size=2e9,D=3e10", "--output=g.json")  # a row that --where leaves out
    assert code == 1 and "already among the records" in error and there(tmp_path).count("g.json") == 0
    code, said, _ = command(ASK[0], "--law=saturating_power", "--columns=x=flops", "--target=x=1e22")
    assert code == 0 and "E + A x^-alpha" in said  # nothing is written


def test_two_steps_say_what_one_would(command, tmp_path):
    code, said, _ = command(*ASK, "--link=downstream", "--metric=error")
    content = forecast.read(tmp_path / "f.json")
    assert code == 0 and content["metric"] == "error" and content["fit"]["link"]["form"] == "downstream"
    assert "through loss" in said and f"in one step: {content['direct']['predicted']:.5g}" in said
    assert command("--check=f.json", f"--observed={content['interval'][0]}")[1].rstrip().endswith("held.")


def test_a_workdir_is_a_source(command, tmp_path):
    store = records.Records(tmp_path / "study")
    for i, row in table().iterrows():
        store.write({"fingerprint": f"run{i}", "role": "sweep", "params_non_embedding": row.model_params,
                     "tokens_seen": row.train_tokens, "tokens_unique": row.train_tokens, "flops": row.flops,
                     "flops_executed": row.flops,
                     "learning_rate": 1e-3, "seed": 0, "bits_per_byte": row.loss, "diverged": False,
                     "experiment": {"optim": {"learning_rate": 1e-3}}})
    ask = ["--workdir=study", "--y=bits_per_byte", "--output=f.json"]
    code, said, error = command(*ask, "--target=N=1e10,D=1e11")
    content = forecast.read(tmp_path / "f.json")
    assert (code, error) == (0, "") and set(content["records"]) == {f"run{i}" for i in range(20)}
    assert content["target"] == {"params_non_embedding": 1e10, "tokens_seen": 1e11}
    store.write({"fingerprint": "target", "role": "target", "params_non_embedding": 1e10, "tokens_seen": 1e11,
                 "flops": 6.2e21, "flops_executed": 6.2e21, "bits_per_byte": content["predicted"],
                 "diverged": False})
    assert command("--check=f.json")[1].rstrip().endswith("The forecast held.")
    code, _, error = command(*ask[:2], "--output=g.json", "--target=N=1e10,D=1e11")
    assert code == 1 and "already among the records" in error
    record = store.read("run3")
    store.path("run3").unlink()
    store.write(record | {"seed": 1})
    code, _, error = command("--check=f.json", "--workdir=study")
    assert code == 1 and "changed: run3" in error


@pytest.mark.parametrize("code, words, arguments", [
    (2, "say which run to forecast", ASK[:1]),
    (2, "name the runs: either --points=FILE", ASK[1:]),
    (2, "name the runs: either --points=FILE", [*ASK, "--workdir=study"]),
    (2, "'N' is not such a pair", [ASK[0], "--target=N"]),
    (2, "'N=2' is not such a pair", [ASK[0], "--target=N=1,N=2"]),
    (2, "--observed goes with --check", [*ASK, "--observed=2"]),
    (2, "--check takes neither --target nor --output", [*ASK, "--check=f.json"]),
    (2, "go together", [*ASK, "--link=downstream"]),
    (2, "takes a positive number or the word noise", [*ASK, "--delta=little"]),
    (2, "Unknown command line flag 'targets'", [*ASK, "--targets=1"]),
    (2, "unexpected argument 'points.csv'", [*ASK, "points.csv"]),
    (1, "no file none.csv", ["--points=none.csv", *ASK[1:]]),
    (1, "no column 'lost' for y; the columns are model_params", [*ASK, "--y=lost"]),
    (1, "did you mean 'chinchilla'", [*ASK, "--law=chinchila"]),
    (1, "names 'M_', which is no input", [ASK[0], "--target=M_=1", ASK[2]]),
    (1, "lacks D", [ASK[0], "--target=N=1e10", ASK[2]]),
    (1, "points cannot determine", [*ASK, "--where=flops < 2.5e17"]),
    (1, "points.csv is not a directory", [*ASK[:2], "--output=points.csv/f.json"]),
    (1, "there is no forecast", ["--check=none.json", "--observed=1"]),
    (1, "no column 'accuracy' for the metric", [*ASK, "--link=downstream", "--metric=accuracy"]),
    (1, "already among the records", [ASK[0], "--target=N=2e7,D=1e9", ASK[2]])])
def test_what_is_wrong_is_said_in_one_sentence(command, tmp_path, code, words, arguments):
    status, said, error = command(*arguments)
    assert status == code and words in error and error.startswith("error: ") and error.count("\n") == 1
    assert said == "" and there(tmp_path) == ["points.csv"]


def test_help_and_the_list_of_laws_are_worth_reading(command):
    ran = subprocess.run([sys.executable, "-m", "experiments.forecast", "--help"], cwd=ROOT, text=True,
                         capture_output=True)
    for words in ("--check=forecast.json --observed=2.31", "--link=downstream --metric=error", "--target:",
                  "--where:"):
        assert words in ran.stdout, words
    code, said, _ = command("--law=list")
    assert code == 0 and all(name in said for name in ("chinchilla", "downstream", "bnsl"))

"""experiments.fit refuses bad input with one sentence, and leaves no files."""
import pytest
from planted_table import table


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
    "compares with what is not there": (table(0.01), ["--compare=kaplann"], 1, ["'kaplann'", "'kaplan'"]),
    "a level of 2": (table(0.01), ["--level=2", "--bootstrap=10"], 1, ["level"]),
    "a fix without a value": (table(), ["--fix=E"], 2, ["--fix", "'E'"]),
    "delta of no kind": (table(), ["--delta=small"], 2, ["--delta", "'small'"]),
    "budgets that are no numbers": (table(0.01), ["--frontier=big"], 2, ["--frontier", "'big'"]),
    "unknown flag": (table(), ["--holdout_compite=1e19"], 2, ["holdout_compite", "holdout_compute"]),
    "two sources": (table(), ["--workdir=."], 2, ["--points", "--workdir"]),
    "a method of no kind": (table(), ["--method=nonsense"], 2, ["--method", "nonsense", "wild"]),
    "no resamples but one": (table(), ["--bootstrap=1"], 2, ["--bootstrap", "1"]),
    "no starts": (table(), ["--starts=0"], 2, ["starts", "0"]),
    "a budget below zero": (table(), ["--frontier=-1"], 2, ["--frontier", "-1"]),
    "a quantile of 2": (table(), ["--quantile=2"], 2, ["--quantile", "2"]),
    "isoFLOP's options without it": (table(), ["--isoflop_curve=akima"], 2, ["--isoflop_curve", "--isoflop"]),
    "no such groups to fit": (table(), ["--each=grp"], 1, ["'grp'", "columns are"]),
    "no file of a law": (table(), ["--form=mine.py"], 1, ["mine.py"]),
    "a stray word": (table(), ["chinchilla"], 2, ["'chinchilla'"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(fit_command, tmp_path, name):
    frame, flags, code, words = BAD[name]
    frame.to_csv(tmp_path / "points.csv", index=False)
    ran = fit_command("--points=points.csv", "--output=fit", *flags)
    assert ran.code == code, ran.err or ran.out
    assert ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran.err
    assert all(word in ran.err for word in words), ran.err
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize(("file", "content", "words"), [
    ("nowhere.csv", None, ["nowhere.csv"]), ("notes.md", b"a,b\n1,2\n", ["notes.md", ".csv"]),
    ("image.csv", b"\x89PNG\r\n\x00\xff\xfe", ["image.csv"]), ("empty.csv", b"", ["empty.csv"]),
    ("broken.jsonl", b'{"a": 1\n', ["broken.jsonl"]), ("broken.parquet", b"PAR1", ["broken.parquet"]),
])
def test_files_that_are_no_tables(fit_command, tmp_path, file, content, words):
    if content is not None:
        (tmp_path / file).write_bytes(content)
    ran = fit_command(f"--points={file}", "--output=fit")
    assert ran.code == 1 and ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran.err
    assert all(word in ran.err for word in words)
    assert not (tmp_path / "fit").exists()


def test_an_output_that_is_a_file_is_refused_first(fit_command, tmp_path):
    (tmp_path / "fit").write_text("mine")
    ran = fit_command("--points=nowhere.csv", "--output=fit")
    assert ran.code == 1 and "is a file" in ran.err
    assert (tmp_path / "fit").read_text() == "mine"

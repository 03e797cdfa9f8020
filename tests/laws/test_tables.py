"""Tables in the shapes that spreadsheets, R, pandas, W&B and shells write: they are read right or refused in a sentence."""
import bz2
import gzip
import json
import lzma
import zipfile

import numpy as np
import pandas as pd
import pytest

from scaling import laws
from scaling.laws.tables.read import read_table

nan, inf = np.nan, np.inf
READ = {  # what: (text, {column: values})
    "semicolons and decimal commas": ("N;D;loss\n1,5;2,25;3,123\n1000000;2,0;4\n",
                                      {"N": [1.5, 1e6], "D": [2.25, 2], "loss": [3.123, 4]}),
    "tabs": ("N\tloss\n1e6\t4.0\n", {"N": [1e6], "loss": [4.0]}),
    "bars, with rules": ("| N | loss |\n|---|:---:|\n| 1e6 | 4 |\n", {"N": [1e6], "loss": [4]}),
    "columns aligned by spaces": ("  N    loss\n 1e6   4.0 \n2e6 3\n", {"N": [1e6, 2e6], "loss": [4, 3]}),
    "thousands in groups": ('N,D,x,loss\n"1,000,000",1 000,1_000,4.5\n"70,000",2 500,2_000,3.5\n',
                            {"N": [1e6, 7e4], "D": [1000, 2500], "x": [1000, 2000], "loss": [4.5, 3.5]}),
    "thousands in points": ("N;loss\n1.000.000;3,5\n70.000;3,25\n", {"N": [1e6, 7e4], "loss": [3.5, 3.25]}),
    "losses of three digits": ("N,loss\n1e6,2.345\n1e7,1.999\n", {"loss": [2.345, 1.999]}),
    "separators at the end": ("N,D,loss\n1,2,3,\n4,5,6,\n", {"N": [1, 4], "D": [2, 5], "loss": [3, 6]}),
    "separators at every end": ("N,D,loss,,\n1,2,3,,\n,,,,\n", {"N": [1], "D": [2], "loss": [3]}),
    "R's write.table": ('"N" "D" "loss"\n"1" 1e6 1e8 4.0\n"2" 1e6 1e9 NA\n',
                        {"N": [1e6, 1e6], "D": [1e8, 1e9], "loss": [4.0, nan]}),
    "R's write.csv": ('"","N","kept"\n"1",1e6,TRUE\n"b",2e6,NA\n', {"N": [1e6, 2e6], "kept": [1, nan]}),
    "R's escapes": ('"run" "N"\n"1" "a \\"b\\"" 5\n', {"N": [5]}),
    "pandas' index": (",N,loss\n0,1e6,4.0\n1,2e6,3.0\n", {"N": [1e6, 2e6], "loss": [4, 3]}),
    "NumPy's savetxt": ("# N loss\n1e6 4.0\n2e6 3.0\n", {"N": [1e6, 2e6], "loss": [4, 3]}),
    "comments": ("# mine, of today\nN,loss\n1e6,4\n# 2e6,3\n3e6,2\n", {"N": [1e6, 3e6], "loss": [4, 2]}),
    "numbers of runs after a #": ("#,N\n#1,5\n#2,6\n", {"N": [5, 6]}),
    "a separator for Excel": ("sep=;\nN;loss\n1;2\n", {"N": [1], "loss": [2]}),
    "W&B": ('"Step","gpt - train/loss","gpt - train/loss__MIN"\n"0","4.5","4.5"\n"1","","4.0"\n',
            {"Step": [0, 1], "gpt - train/loss": [4.5, nan]}),
    "suffixes and blanks": ("N,D,loss\n1.3B,300k, 5e0 \n70M,2T,3\n", {"N": [1.3e9, 7e7], "D": [3e5, 2e12], "loss": [5, 3]}),
    "integers of any size": (f"N,loss\n{2 ** 70},3\n{2 ** 53 + 1},2\n", {"N": [2.0 ** 70, 2.0 ** 53 + 1]}),
    "no number": ("a,b,c\ninf,NA,-\n-Infinity,null,n/a\n", {"a": [inf, -inf], "b": [nan, nan], "c": [nan, nan]}),
    "blanks and slashes in names": ("model params,train/loss\n1,2\n", {"model params": [1], "train/loss": [2]}),
    "a single column": ("loss\n3.0\n\n2.5\n", {"loss": [3.0, 2.5]}),
    "a single column with a gap": ('loss\n3.0\n""\n', {"loss": [3.0, nan]}),
    "quoted line ends": ('run,N\n"a\n# b",5\n', {"N": [5]}),
    "a header only": ("N,loss\n", {"N": [], "loss": []}),
    "carriage returns": ("N,loss\r1,2\r3,4\r", {"N": [1, 3], "loss": [2, 4]}),
}
REFUSED = {  # what: (text, words of the sentence)
    "a row with a cell too many": ("N,D,loss\n1,2,3\n4,5,6,7\n", ["row 1", "line 3", "4 cells", "3 columns"]),
    "a row with a cell too few": ("N,D,loss\n1,2,3\n4,5\n", ["row 1", "line 3", "2 cells"]),
    "pandas' trap of an unnamed first column": ("N,D\n1e6,1e8,4.0\n1e7,1e8,3.0\n", ["row 0", "3 cells", "2 columns"]),
    "a header that lost a name": ('"run","N"\n"a",1e6,4.0\n"b",1e7,3.0\n', ["row 0", "3 cells", "2 columns"]),
    "a header of W&B that lost a name": ('"Step","N"\n"0","1.0",""\n"1","0.5","1.0"\n', ["row 0", "3 cells"]),
    "thousands without quotes": ("N,loss\n1,000,000,3.5\n70,000,3.0\n", ["row 0", "cells"]),
    "no header": ("1,2,3\n4,5,6\n", ["first line", "name the columns"]),
    "one name twice": ("N,loss,N\n1,2,3\n", ["'N'", "two"]),
    "a quote that does not end": ('N,loss\n"1,2\n', ["quotes", "line 2"]),
    "nothing": ("", ["empty"]), "blank lines": ("\n \n", ["empty"]), "a picture": ("\x89PNG\0\0", ["no text"]),
}


@pytest.mark.parametrize("what", READ)
def test_tables_of_every_writer_are_read(tmp_path, what):
    text, expected = READ[what]
    (tmp_path / "points.csv").write_bytes(text.encode())
    frame, _ = read_table(tmp_path / "points.csv")
    for name, values in expected.items():
        np.testing.assert_array_equal(laws.Runs.from_dataframe(frame, y=name).y, values, err_msg=what)


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_reader_can_know_is_refused(tmp_path, what):
    text, words = REFUSED[what]
    (tmp_path / "points.csv").write_bytes(text.encode())
    with pytest.raises(laws.LawError) as caught:
        laws.Runs.from_csv(tmp_path / "points.csv")
    said = str(caught.value)
    assert "\n" not in said and "points.csv" in said and all(word in said for word in words), said


@pytest.mark.parametrize("text, words", [
    ("N;loss\n1,000;3\n2,000;4\n", ["'1,000'", "decimal sign", "row 0"]),
    ("N;loss\n1.500;3,25\n2.250;4,75\n", ["'1.500'", "decimal commas"]),
    ("N,loss\nmany,3\n2,4\n", ["'many'", "row 0"]), ("N,loss\n12%,3\n", ["'12%'"]),
    ("N,loss\n2024-01-01,3\n", ["'2024-01-01'"]), ("N,loss\n1e999,3\n", ["'1e999'", "too large"])])
def test_a_cell_that_is_no_number_or_may_be_two_is_refused_with_its_row(tmp_path, text, words):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(laws.LawError, match="column 'N'") as caught:
        laws.Runs.from_csv(tmp_path / "points.csv").values("N")
    assert all(word in str(caught.value) for word in words), caught.value


TEXT = "N,train/loss,naïve\n1e6,4.0,a\n2e6,3.0,b\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_encodings_are_found(tmp_path, encoding):
    (tmp_path / "points.csv").write_bytes(TEXT.encode(encoding))
    frame, _ = read_table(tmp_path / "points.csv")
    assert list(frame.columns) == ["N", "train/loss", "naïve"] and list(frame["N"]) == [1e6, 2e6]


def _zipped(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("points.csv", content)


def _zstd(path, content):
    arrow = pytest.importorskip("pyarrow")
    with arrow.CompressedOutputStream(str(path), "zstd") as out:
        out.write(content)


@pytest.mark.parametrize("suffix, write", [
    (".gz", lambda path, content: path.write_bytes(gzip.compress(content))), (".zst", _zstd), (".zip", _zipped),
    (".bz2", lambda path, content: path.write_bytes(bz2.compress(content))),
    (".xz", lambda path, content: path.write_bytes(lzma.compress(content)))])
def test_compressed_tables_are_read_and_torn_ones_refused(tmp_path, suffix, write):
    path = tmp_path / f"points.csv{suffix}"
    write(path, TEXT.encode())
    assert list(read_table(path)[0]["train/loss"]) == [4.0, 3.0]
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(laws.LawError, match="could not be read as a table"):
        read_table(path)


@pytest.mark.parametrize("content", [
    [{"N": 1, "config": {"size": "1.3B"}}, {"N": 2 ** 70}], {"N": [1, 2 ** 70], "config.size": ["1.3B", None]},
    {"N": {"0": 1, "1": 2 ** 70}, "config.size": {"0": "1.3B"}},
    {"columns": ["N", "config.size"], "index": [0, 1], "data": [[1, "1.3B"], [2 ** 70, None]]}])
def test_json_is_read_by_names(tmp_path, content):
    (tmp_path / "points.json").write_text(json.dumps(content))
    frame, _ = read_table(tmp_path / "points.json")
    np.testing.assert_array_equal(frame["N"], [1, 2.0 ** 70])
    np.testing.assert_array_equal(frame["config.size"], [1.3e9, nan])


@pytest.mark.parametrize("name, text, words", [
    ("a.json", '{"N": [1, 2], "D": [1]}', ["columns of one length"]), ("a.json", "[1, 2]", ["list of objects"]),
    ("a.json", '{"columns": ["N", "D"], "data": [[1, 2], [3]]}', ["row 1", "1 cells"]),
    ("a.jsonl", '{"N": 1}\n{"N": 2', ["line 2"]), ("a.jsonl", '{"N": 1, "N": 2}', ["'N' twice"]),
    ("a.jsonl", "[1]", ["line 1"]), ("a.jsonl", "", ["no rows"])])
def test_json_that_is_no_table_is_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(laws.LawError) as caught:
        read_table(tmp_path / name)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_columns_of_any_type_are_numbers_or_refused():
    frame = pd.DataFrame({
        "big": [2 ** 70, 3], "nullable": pd.array([1, None], dtype="Int64"), "text": ["1.3B", "7"],
        "kept": pd.array([True, None], dtype="boolean"), "day": pd.to_datetime(["2024-01-01", "2024-01-02"]),
        "complex": [1j, 2.0], "list": [[1], [2]]})
    for name, values in {"big": [2.0 ** 70, 3], "nullable": [1, nan], "text": [1.3e9, 7], "kept": [1, nan]}.items():
        np.testing.assert_array_equal(laws.Runs.from_dataframe(frame, y=name).y, values)
    for name in ("day", "complex", "list"):
        with pytest.raises(laws.LawError, match=f"{name!r} is not numeric"):
            _ = laws.Runs.from_dataframe(frame, y=name).y
    with pytest.raises(laws.LawError, match="two columns are called 'a'"):
        laws.Runs.from_dataframe(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_comment_lines_are_counted_in_the_source(tmp_path):
    (tmp_path / "points.csv").write_text("N,D,loss\n1,2,3\n#4,5,6\n")
    assert laws.Runs.from_csv(tmp_path / "points.csv").manifest()["source"]["comment_lines"] == 1

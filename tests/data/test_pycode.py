"""The standard library itself, built once."""
import subprocess
import sys
import zlib

import numpy as np
import pytest

from scaling import data
from scaling.data import pycode
from scaling.data.curate import ENOUGH, MOST


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return data.load_text("pycode/stdlib", data_dir=tmp_path_factory.mktemp("pycode"), progress=False)


def test_sizes_and_splits(source):
    assert source.splits == ("file", "package") and source.vocab == 256
    assert source.tokens > 2_000_000             # Debian's Python comes without Lib/test: 10 MB instead of 26
    documents = {split: part["documents"] for split, part in source.contents["evaluation"].items()}
    others = source.contents["training"]["documents"] + documents["file"]
    assert documents["file"] <= MOST * others and documents["file"] >= min(ENOUGH, int(MOST * others))
    for split in source.splits:  # of Debian's 106 files of 530, some are large
        share = len(source.evaluation(split, 0)["tokens"]) * source.length / source.tokens
        assert 0.02 < share < 0.35


def test_windows_are_python(source):
    text = source.decode(np.concatenate([w[1:] for w in source.arrays()["tokens"][:1000]]))
    assert "    def " in text and "return" in text and "import" in text and "\ufffd" not in text[:100]


def test_a_small_prefix_compresses_like_another(source):
    """Disjoint samples of 80 thousand tokens compress alike, so a small prefix is representative."""
    rows = source.arrays()["tokens"][:, 1:]
    sizes = [len(zlib.compress(rows[start:start + 320].tobytes())) for start in range(0, 3200, 320)]
    assert np.std(sizes) / np.mean(sizes) < 0.06


def test_held_out_by_file_is_not_in_training(source):
    """Long stretches of evaluation files are rare in training, because near duplicates are removed."""
    train = source.arrays()["tokens"].tobytes()
    found = source.evaluation("file", 16384)["tokens"].astype(np.uint8)
    assert np.mean([w[:120].tobytes() in train for w in found]) < 0.1


def test_packages_are_top_level_modules_with_their_tests():
    package = {file.name: file.package for file in pycode.stdlib()}
    assert package["stdlib/json/decoder.py"] == "json" and package["stdlib/os.py"] == "os"
    assert package["stdlib/_strptime.py"] == "strptime"
    tests = {"test_json/test_decode.py": "json", "test_descr.py": "test", "test_asyncio/utils.py": "asyncio"}
    for name, expected in tests.items():
        assert package.get(f"stdlib/test/{name}", expected) == expected      # not there in Debian's Python


def test_loading_imports_no_tensorflow_and_later_loads_no_tfds(source, tmp_path):
    """Runs in fresh processes, because this one has imported TFDS for other tests."""
    program = f"""
import sys
from scaling import data
source = data.load_text('text:{tmp_path}/*.txt', data_dir={str(tmp_path / "data")!r}, length=8, progress=False)
source.batch(0, 0)
print(source.fingerprint, *sorted({{'tensorflow', 'tensorflow_datasets', 'grain'}} & set(sys.modules)))"""
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text(f"This is file number {i}, with {i * i} and {i * i * i} in it.")
    first, second = (subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                                    check=True).stdout.split() for _ in range(2))
    assert first[0] == second[0] and first[1:] == ["tensorflow_datasets"] and second[1:] == []

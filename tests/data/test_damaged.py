"""Prepared data that are damaged are prepared again with a warning, or named in one sentence, and never read wrongly."""
import os
import pathlib
import stat
import warnings

import numpy as np
import pytest
from PIL import Image

from scaling import data
from scaling.fields import DataError


def flipped(content: bytes, at: int = -1) -> bytes:
    at = at if at >= 0 else len(content) // 2
    return content[:at] + bytes([content[at] ^ 8]) + content[at + 1:]


DAMAGE = {"cut": lambda content: content[:len(content) // 2], "empty": lambda content: b"", "flipped": flipped,
          "braces": lambda content: b"{}"}


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(25):
        (tmp_path / "books").mkdir(exist_ok=True)
        (tmp_path / "books" / f"{i}.txt").write_text("".join(f"line {rng.random()}\n" for _ in range(100)))
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path


def load_text(root):
    source = data.load_text(f"text:{root}/books", "bpe:280", 32, 4, data_dir=root / "data", progress=False)
    return source.fingerprint, source.arrays()["tokens"].tobytes(), source.evaluation("file", 0)["tokens"].tobytes()


def load_images(root):
    source = data.load_images(f"images:{root}/photos", 8, 3, data_dir=root / "data", progress=False)
    return source.fingerprint, source.arrays()["image"].tobytes(), source.evaluation("iid", 1)["image"].tobytes()


def load_glyphs(root):
    source = data.load_images("glyphs/digits", 8, batch=4, data_dir=root / "data", progress=False)
    return source.fingerprint, source.batch(0, 0)["image"].tobytes()


def damaged_results(root, load, pattern, damage):
    """The result before the damage, and what each file that matches gives when it is damaged: a result or a sentence."""
    before, found = load(root), []
    paths = sorted(root.glob(f"data/{pattern}"))
    assert paths
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(DAMAGE[damage](content))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found.append((load(root), "".join(str(w.message) for w in said)))
            except DataError as error:
                assert "\n" not in str(error) and "delete" in str(error) and str(path.parent) in str(error)
                found.append((before, str(error)))
                path.write_bytes(content)
    return before, found


@pytest.mark.parametrize("load, pattern, damage", [          # bits of write_json's files are flipped in tests/store
    *[(load_text, pattern, damage) for pattern in ("index/*.json", "windows/*/*.json") for damage in ("cut", "braces")],
    *[(load_text, "tokenizers/*.json", damage) for damage in DAMAGE],
    *[(load_text, "windows/*/*.npy", damage) for damage in ("cut", "flipped")],
    (load_images, "images/*/*.np?", "cut"), (load_images, "images/*/*.np?", "flipped"),
    (load_images, "images/*/table.json", "braces"), (load_glyphs, "masters/*/fields.npy", "cut")])
def test_damage_is_mended_or_named(root, load, pattern, damage):
    before, found = damaged_results(root, load, pattern, damage)
    for after, said in found:
        assert after == before and "is damaged" in said


@pytest.mark.parametrize("damage", ["cut", "braces"])
@pytest.mark.parametrize("pattern", ["*/text_files/*/dataset_info.json", "*/text_files/*/features.json",
                                     "*/text_files/*/*.array_record*"])
def test_a_damaged_corpus_is_built_again_or_named_when_it_is_needed(root, pattern, damage):
    def load(root):
        for path in root.glob("data/windows/*/*"):     # so that the documents are read
            path.unlink()
        return load_text(root)

    before, found = damaged_results(root, load, pattern, damage)
    assert all(after == before for after, _ in found)


def test_files_have_the_mode_of_the_umask(root):
    before = os.umask(0o002)
    try:
        for load in (load_text, load_images, load_glyphs):
            load(root)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root / "data").rglob("*")}
    assert len(modes) > 20
    assert {path: oct(mode) for path, mode in modes.items() if mode != (0o775 if path.is_dir() else 0o664)} == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_others_may_not_write_is_one_sentence(root):
    load_text(root)
    (root / "data" / "windows").chmod(0o555)
    with pytest.raises(DataError, match="cannot be used .*right to write"):
        data.load_text(f"text:{root}/books", length=16, data_dir=root / "data", progress=False)


def test_permission_denied_is_one_sentence(root, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    load_text(root)
    monkeypatch.setattr(pathlib.Path, "mkdir", lambda self, *a, **k: refuse(self) if "windows" in str(self) else None)
    with pytest.raises(DataError, match="windows.* cannot be used .Permission denied.*right to write"):
        data.load_text(f"text:{root}/books", length=16, data_dir=root / "data", progress=False)

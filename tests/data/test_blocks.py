"""Blocks of windows on disk: equal windows from a memory map and from records, and old blocks stay readable."""
import random

import numpy as np
import pytest

from scaling import data
from scaling.data import blocks, windows
from scaling.fields import DataError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("corpus"), random.Random(0)
    for i in range(40):
        (root / f"{i}.txt").write_text(" ".join(f"{rng.choice('abcdefgh')}{rng.randrange(10**4)}" for _ in range(200)))
    return f"text:{root}/*.txt"


def load(corpus, root, **options):
    return data.load_text(corpus, data_dir=root, progress=False, **{"length": 32, "batch": 8, **options})


@pytest.fixture(params=blocks.STORAGES)
def stored(corpus, tmp_path, monkeypatch, request):
    """A source of several blocks of many small pieces or records."""
    for name, size in (("BLOCK", 15_000), ("PIECE", 400), ("RECORD", 300)):
        monkeypatch.setattr(windows if name == "BLOCK" else blocks, name, size)
    source = load(corpus, tmp_path, storage=request.param)
    assert len(source._train.blocks) > 2
    return source


def test_all_storages_hold_the_same_windows(corpus, stored, tmp_path):
    plain = load(corpus, tmp_path / "mapped")
    assert stored.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(stored.arrays()["tokens"], plain.arrays()["tokens"])
    for indices in (np.random.default_rng(0).integers(0, len(stored._train), 500), [], [3, 3]):
        np.testing.assert_array_equal(stored._train[indices], plain.arrays()["tokens"][np.array(indices, int)])


def test_all_storages_read_their_files_and_not_the_documents_again(corpus, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "take", lambda *a: pytest.fail("the documents were read again"))
    again = load(corpus, tmp_path, storage=next(s for s in blocks.STORAGES))
    np.testing.assert_array_equal(again.batches(2, 0, 50)["tokens"], stored.batches(2, 0, 50)["tokens"])


def test_batches_of_many_steps_equal_those_of_each_step(corpus, stored, tmp_path, monkeypatch):
    """Over epochs that end within batches, with seeds, rows of hosts, starts in the middle, and parts that end anywhere."""
    part = load(corpus, tmp_path, unique_tokens=32 * 101)  # 40 steps of 8 are three epochs of it
    assert part._count == 101 and stored._count > 1000
    for tables, together in ((1 << 20, 1 << 15), (1 << 20, 60), (0, 1 << 15), (0, 1)):
        monkeypatch.setattr("scaling.data.source.TABLES", tables)
        part._together = stored._together = together
        for source, seed, start, rows in ((part, 0, 0, None), (part, 7, 13, range(2, 5)), (part, 7, 2**31 - 50, range(8)),
                                          (stored, 3, stored._count // 8 - 20, range(0, 8, 3)), (stored, 1, 5, range(0))):
            found = source.batches(seed, start, start + 40, rows)["tokens"]
            wanted = np.stack([source.batch(seed, step, rows)["tokens"] for step in range(start, start + 40)])
            assert found.dtype == wanted.dtype == np.int32
            np.testing.assert_array_equal(found, wanted)


def test_blocks_of_old_indices_are_read_as_records_of_64_kib(corpus, tmp_path):
    """An index without hashes and without the size of a record is one of before there were memory maps."""
    wanted = load(corpus, tmp_path / "new").arrays()["tokens"]
    source = load(corpus, tmp_path / "old")
    (path,) = (tmp_path / "old" / "windows").glob("*/train-00000.json")
    pieces = (wanted[at:at + 1985] for at in range(0, len(wanted), 1985))  # 65536 // 33 windows of one byte a token
    blocks.write_records(path.with_suffix(".array_record"), pieces)
    index = {key: value for key, value in windows.find_index(path).items() if key not in ("piece", "hashes")}
    windows.write_json(path, index)
    path.with_suffix(".npy").unlink()
    old = load(corpus, tmp_path / "old")
    assert isinstance(old._train._opened[0], blocks.RecordBlock) and old.fingerprint == source.fingerprint
    np.testing.assert_array_equal(old.arrays()["tokens"], wanted)
    assert 0 <= blocks.CACHED - old._train._cache.cache_info().maxsize * 1985 * 33 < 1985 * 33


@pytest.mark.parametrize("stored", ["array_record"], indirect=True)
def test_records_in_memory_are_bounded(stored, monkeypatch, corpus, tmp_path):
    monkeypatch.setattr(blocks, "CACHED", 2000)
    source = load(corpus, tmp_path)
    source.batches(0, 0, 60)
    held = source._train._cache.cache_info()
    assert held.currsize == held.maxsize and held.maxsize * 9 * 33 <= 2000 < len(source._train) * 33


@pytest.mark.parametrize("stored", ["mapped"], indirect=True)
def test_mapped_windows_are_the_pages_of_their_files(stored, tmp_path):
    mapped = [block._rows for block in stored._train._opened]
    assert all(isinstance(rows.base, np.memmap) and not rows.flags.owndata for rows in mapped)
    assert sum(rows.nbytes for rows in mapped) == len(stored._train) * 33


@pytest.mark.parametrize("stored", ["mapped"], indirect=True)
def test_a_changed_byte_is_found_when_its_piece_is_read_and_not_before(corpus, stored, tmp_path):
    path = sorted(tmp_path.glob("windows/*/train-*.npy"))[1]
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    again = load(corpus, tmp_path)
    first, last = again._train._starts[1:3]
    np.testing.assert_array_equal(again._train[np.arange(first + 12)], stored._train[np.arange(first + 12)])
    for _ in range(2):
        with pytest.raises(DataError, match="train-00001.npy is damaged: piece .* delete it"):
            again._train[[last - 1]]


def test_storages_that_are_not_known_are_refused(corpus, tmp_path):
    with pytest.raises(DataError, match="data.storage='map' .*write mapped or array_record"):
        load(corpus, tmp_path, storage="map")

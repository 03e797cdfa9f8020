"""A source: the same batches however they are fed, each a pure function of (seed, step)."""
import glob
import pathlib
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import data
from scaling.data import order, tokenizers, windows
from scaling.fields import DataError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A hundred files of different words, and where to prepare them."""
    root, rng = tmp_path_factory.mktemp("corpus"), random.Random(0)
    for i in range(100):
        words = [f"{rng.choice('abcdefgh')}{rng.randrange(10**4)}é" for _ in range(rng.randrange(20, 400))]
        (root / f"{i:03d}.txt").write_text(" ".join(words), encoding="utf-8")
    return f"text:{root}/*.txt", root.parent / "data"


def load(corpus, **kwargs):
    return data.load_text(corpus[0], data_dir=corpus[1], progress=False, **{"length": 32, "batch": 8, **kwargs})


def rows(batches):
    return np.concatenate([b["tokens"] for b in batches])


@pytest.fixture(scope="module", params=["bytes", "bpe:300"])
def source(corpus, request):
    return load(corpus, tokenizer=request.param, unique_tokens=32 * 50)


def test_resident_equals_streamed_equals_batch(source):
    arrays = jax.tree.map(jnp.asarray, source.arrays())
    steps = range(3, 23)                   # several epochs of 50 windows; batches of 8 lie across two
    resident = jax.jit(lambda seed, step: source.slice(arrays, seed, step))
    for step, streamed in zip(steps, source.stream(5, 3, 23), strict=True):
        alone = source.batch(5, step)
        assert alone["tokens"].shape == (8, 33) and alone["tokens"].dtype == np.int32
        np.testing.assert_array_equal(streamed["tokens"], alone["tokens"])
        found = resident(5, step)["tokens"]
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, alone["tokens"])


def test_slice_under_vmap_and_scan(source):
    arrays = jax.tree.map(jnp.asarray, source.arrays())
    seeds, steps = jnp.array([0, 1, 2**31 - 1]), jnp.arange(10, 14)

    def of_step(carry, step):
        return carry, jax.vmap(lambda seed: source.slice(arrays, seed, step)["tokens"])(seeds)

    _, found = jax.lax.scan(of_step, None, steps)
    for i, step in enumerate(steps):
        for j, seed in enumerate(seeds):
            np.testing.assert_array_equal(found[i, j], source.batch(int(seed), int(step))["tokens"])


def test_batch_is_pure_and_does_not_depend_on_the_past(corpus, source):
    other = load(corpus, tokenizer=source.tokenizer.name, unique_tokens=source.unique_tokens)
    assert other.fingerprint == source.fingerprint
    order = np.random.default_rng(0).permutation(20)
    first = {step: source.batch(1, int(step))["tokens"] for step in order}
    for step in range(20):
        np.testing.assert_array_equal(other.batch(1, step)["tokens"], first[step])


@pytest.mark.parametrize("hosts", [1, 2, 8])
def test_hosts_read_their_own_rows_of_the_batch(source, hosts):
    whole = source.batch(2, 9)["tokens"]
    each = len(whole) // hosts
    for host in range(hosts):
        rows = range(host * each, (host + 1) * each)
        np.testing.assert_array_equal(source.batch(2, 9, rows)["tokens"], whole[rows])
        (streamed,) = source.stream(2, 9, 10, rows)
        np.testing.assert_array_equal(streamed["tokens"], whole[rows])


def test_epochs_are_permutations_of_the_same_windows(source):
    used = source.arrays()["tokens"].astype(np.int32)
    assert len(used) == 50
    seen = [rows([source.batch(seed, step) for step in range(25)]).reshape(4, 50, 33) for seed in (0, 4, 5)]  # 4 epochs
    np.testing.assert_array_equal(seen[0][0], used)          # the fixed order
    for epoch in np.concatenate(seen):
        assert sorted(map(bytes, epoch)) == sorted(map(bytes, used))
    assert len({epoch.tobytes() for epoch in np.concatenate(seen)}) == 12    # by epoch and by seed


@pytest.mark.parametrize("tables", [0, 1 << 20])
@pytest.mark.parametrize("step", [0, 6, 20, 2**31 - 5])
def test_looked_up_computed_and_traced_agree_and_do_not_overflow(source, monkeypatch, step, tables):
    monkeypatch.setattr("scaling.data.source.TABLES", tables)
    found = jax.jit(lambda s: source.slice(source.arrays(), 3, s))(step)
    np.testing.assert_array_equal(found["tokens"], source.batch(3, step)["tokens"])


def test_documents_of_evaluation_windows_are_those_of_the_text(corpus):
    source = load(corpus)
    found = source.evaluation("file", 0)
    places = order.permutation(len(found["tokens"]), windows.WINDOWS, 0)
    text = found["tokens"][np.argsort(places)][:, 1:].ravel()  # the whole split, without its first token
    starts = np.sort(places) * source.length
    wanted = [int((text[:start] == 0).sum()) for start in starts]
    np.testing.assert_array_equal(found["document"][np.argsort(places)], wanted)
    np.testing.assert_array_equal(source.evaluation("file", 320)["document"], found["document"][:320 // source.length])
    assert len(set(wanted)) > 2


def test_smaller_data_sets_are_prefixes_of_larger(corpus):
    small, large = load(corpus, unique_tokens=1000), load(corpus)
    assert small.unique_tokens == 992 and large.unique_tokens == large.tokens
    np.testing.assert_array_equal(small.arrays()["tokens"], large.arrays()["tokens"][:31])
    assert small.fingerprint == large.fingerprint
    small, large = large.evaluation("file", 320), large.evaluation("file", 640)
    for name in small:
        np.testing.assert_array_equal(small[name], large[name][:10])


def test_windows_predict_each_token_of_the_packed_documents_once(tmp_path):
    documents = [f"{i:05d} " * (i % 9) for i in range(300)]
    tokenizer = tokenizers.Bytes()
    found = windows.prepare(tmp_path, "train", 7, tokenizer, lambda: documents, progress=False)
    texts, end = windows.take(documents)
    assert sorted(texts) == sorted(documents) and texts != documents and end == 300
    packed = tokenizer.pack(texts)
    count = (len(packed) - 1) // 7
    expected = [packed[7 * w:7 * w + 8].tobytes() for w in range(count)]
    shuffled = [w.tobytes() for w in found.first(len(found))]
    assert shuffled != expected and sorted(shuffled) == sorted(expected)


def test_bytes_of_targets_add_up_to_the_text(source):
    found = source.evaluation("file", 0)
    assert found["bytes"].dtype == np.int32 and found["bytes"].shape == found["tokens"][:, 1:].shape
    for row in range(len(found["tokens"])):
        assert found["bytes"][row].sum() == len(source.tokenizer.to_bytes(found["tokens"][row, 1:]))


def test_a_prefix_is_a_sample_of_all_documents(corpus):
    """The first tenth of the training tokens comes from most of the files, not from the first few."""
    source = load(corpus)
    texts = [pathlib.Path(p).read_bytes() for p in glob.glob(corpus[0][5:])]
    tenth = [bytes(w).split(b"\0")[0] for w in source.arrays()["tokens"][:source.tokens // 32 // 10]]
    touched = {i for w in tenth for i, text in enumerate(texts) if len(w) > 20 and w in text}
    assert len(touched) > 40


def test_blocks_are_nested_and_prepared_only_as_asked(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "BLOCK", 20_000)
    corpus = corpus[0], tmp_path
    part = load(corpus, unique_tokens=30_000)
    first = part.arrays()["tokens"].copy()
    assert 30_000 <= part.tokens < 60_000
    whole = load(corpus)
    assert whole.tokens > part.tokens and len(whole._train.blocks) > 2
    np.testing.assert_array_equal(whole.arrays()["tokens"][:len(first)], first)
    assert part.fingerprint == whole.fingerprint
    found = np.concatenate([whole.batch(1, s)["tokens"] for s in range(1000, 1100)])
    assert {w.tobytes() for w in found} <= {w.tobytes() for w in whole.arrays()["tokens"].astype(np.int32)}


@pytest.mark.parametrize("ask, say", [
    ({"length": 10**7}, "smaller length"), ({"unique_tokens": 10**9}, "at most"),
    ({"unique_tokens": 5}, "0 for all"),
    ({"length": 0}, "at least 1"), ({"batch": 0}, "at least 1"), ({"unique_tokens": -1}, "at least 0")])
def test_too_large_and_too_small_arguments_are_refused(corpus, ask, say):
    with pytest.raises(DataError, match=say) as error:
        load(corpus, **ask)
    assert "\n" not in str(error.value)


def test_errors_say_what_to_write(source):
    with pytest.raises(DataError, match="it has file"):
        source.evaluation("test")
    with pytest.raises(DataError, match="write at most that"):
        source.evaluation("file", 10**9)
    with pytest.raises(DataError, match="not within a batch"):
        source.batch(0, 0, range(source.batch_size + 1))

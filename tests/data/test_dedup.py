"""Near duplicates: planted ones are found, distinct ones are kept, and the estimate is the Jaccard similarity."""
import random
import tracemalloc

import numpy as np
import pytest

from scaling.data import components, dedup


def program(seed: int, lines: int = 60) -> list[str]:
    rng = random.Random(seed)
    words = [f"name{rng.randrange(10**6)}" for _ in range(40)]

    def word():
        return rng.choice(words)

    return [f"    {word()} = {word()}({rng.randrange(100)}, {word()}[{word()}])" for _ in range(lines)]


def clusters(texts):
    return dedup.clusters(np.stack([dedup.signature(t.encode()) for t in texts])).tolist()


def test_tokens_are_equal_exactly_where_the_text_is():
    hashes = dedup.tokens("ab = ab + a_b1 + é; ab\n\tab".encode()).tolist()
    names = ["ab", "=", "ab", "+", "a_b1", "+", "é", ";", "ab", "ab"]
    assert len(hashes) == len(names) and len(set(hashes)) == len(set(names))
    assert all((hashes[i] == hashes[j]) == (names[i] == names[j]) for i in range(10) for j in range(10))


@pytest.mark.parametrize("overlap", [0.3, 0.6, 0.9])
def test_estimate_is_the_jaccard_similarity(overlap):
    rng = random.Random(0)
    errors = []
    for _ in range(20):
        shared, rest = int(400 * overlap), 400 - int(400 * overlap)
        words = [str(rng.random()) for _ in range(shared + 2 * rest)]
        a, b = words[:shared + rest], words[:shared] + words[shared + rest:]
        a, b = " ".join(a).encode(), " ".join(b).encode()
        x, y = dedup.shingles(a), dedup.shingles(b)
        true = len(np.intersect1d(x, y)) / len(np.union1d(x, y))
        errors.append(np.mean(dedup.signature(a) == dedup.signature(b)) - true)
    assert abs(np.mean(errors)) < 4 * 0.5 / np.sqrt(20 * dedup.PERMUTATIONS)      # unbiased, to four sigma
    assert np.max(np.abs(errors)) < 5 * 0.5 / np.sqrt(dedup.PERMUTATIONS)


def test_planted_near_duplicates_are_found_and_distinct_programs_kept():
    texts = ["\n".join(program(seed)) for seed in range(100)]
    for seed in range(20):                       # one line in sixty changed, and re-indented
        lines = program(seed)
        lines[seed] = "    return None"
        texts.append("\n".join("\t" + line.strip() for line in lines))
    found = clusters(texts)
    assert found[:100] == list(range(100)) and found[100:] == list(range(20))


def test_clusters_are_transitive_and_named_by_their_first():
    base = program(1, 400)
    chain = ["\n".join(base[i:i + 300]) for i in range(0, 80, 10)]      # each like the next, the ends less
    assert clusters([*chain, "\n".join(program(2))]) == [0] * 8 + [8]


@pytest.mark.parametrize("text", ["", " \n", "x", "a b", "a b c d e"])
def test_texts_shorter_than_a_shingle_have_signatures(text):
    assert dedup.signature(text.encode()).shape == (dedup.PERMUTATIONS,)
    assert clusters([text, "\n".join(program(1))]) == [0, 1]


@pytest.mark.parametrize("edges", [0, 5, 40, 200])
def test_components_are_named_by_their_least_member(edges):
    rng = np.random.default_rng(edges)
    pairs = rng.integers(60, size=(edges, 2)).tolist()
    expected = list(range(60))
    for _ in range(60):                          # lowers both ends of each edge until nothing changes
        for one, other in pairs:
            expected[one] = expected[other] = min(expected[one], expected[other])
    assert components.least_members(60, pairs).tolist() == expected


def signatures(count: int, templates: int, kept: float, seed: int = 0) -> np.ndarray:
    """Signatures that each keep a share of the min-hashes of one of some templates: similar to `kept`**2."""
    rng = np.random.default_rng(seed)
    template = rng.integers(0, 1 << 32, (templates, dedup.PERMUTATIONS), dtype=np.uint32)
    noise = rng.integers(0, 1 << 32, (count, dedup.PERMUTATIONS), dtype=np.uint32)
    return np.where(rng.random(noise.shape) < kept, template[rng.integers(templates, size=count)], noise)


@pytest.mark.parametrize("templates, kept", [(1, 0.95), (1, 0.88), (1, 0.78), (3, 0.89), (50, 0.9), (200, 0.9)])
def test_clusters_are_those_of_comparing_all_pairs(templates, kept):
    found = signatures(700, templates, kept)
    found = np.concatenate([found, found[:100]])          # some are equal
    pairs = [(i, j) for i in range(len(found)) for j in np.flatnonzero(
        np.mean(found[i + 1:] == found[i], axis=1) >= dedup.THRESHOLD) + i + 1]
    np.testing.assert_array_equal(dedup.clusters(found), components.least_members(len(found), pairs))


def test_many_copies_of_a_page_take_memory_in_proportion_to_their_number():
    sizes = []
    for count in (2000, 8000):
        found = signatures(count, 1, 0.97)
        tracemalloc.start()
        assert len(set(dedup.clusters(found).tolist())) == 1
        sizes.append(tracemalloc.get_traced_memory()[1] / found.nbytes)
        tracemalloc.stop()
    assert max(sizes) < 5                     # in units of the signatures themselves; all pairs would be over 100


def test_large_groups_of_unlike_pages_are_compared_with_some_of_them_only(monkeypatch):
    work = {}
    agreeing = dedup._agreeing
    monkeypatch.setattr(dedup, "LEADERS", 32)
    for count in (500, 1000):
        compared = []
        monkeypatch.setattr(dedup, "_agreeing", lambda many, one, to=compared: to.append(len(many)) or agreeing(many, one))
        found = signatures(count, 1, 0.78)
        found[1::250] = found[::250]
        found[1::250, 5] ^= 1                    # nearly equal to the one before
        same = dedup.clusters(found)
        assert (same[1::250] == same[::250]).all() and len(set(same.tolist())) > 0.9 * count
        work[count] = sum(compared)
    assert work[1000] < 2.5 * work[500]

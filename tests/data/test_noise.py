"""Noise in training data: the share that was asked for, a function of the example alone, and clean evaluation."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import data, experiment
from scaling.data.noise import Corruption
from scaling.experiment import names
from scaling.fields import ConfigError, DataError


@pytest.fixture(scope="module")
def load_prose(tmp_path_factory):
    root = tmp_path_factory.mktemp("noise")
    for i in range(40):
        (root / f"{i:02d}.txt").write_text(" ".join(f"word{i * 1000 + j}" for j in range(150)))

    def load(**options):
        return data.load_text(f"text:{root}/*.txt", length=32, batch=8, data_dir=root / "data", progress=False, **options)
    return load


def windows(source, seed=0):
    return np.concatenate([source.batch(seed, step)["tokens"] for step in range(source._count // 8)])


def test_the_share_of_changed_values_is_the_share_of_noise():
    values, index = np.zeros((2000, 50), np.uint8), np.arange(2000)
    for share, dirty in ((0.1, 1.0), (0.4, 0.25), (1.0, 0.5)):
        noise = Corruption(share, dirty)
        changed = noise.add(values, index, 1, 255) != 0
        which = noise.is_dirty(index)
        assert not changed[~which].any() and abs(which.mean() - dirty) < 0.04
        assert abs(changed[which].mean() - share) < 0.01
    drawn = Corruption(1.0).add(values, index, 3, 5)
    assert set(np.unique(drawn)) == {3, 4, 5, 6, 7} and np.bincount(drawn.ravel())[3:].min() > 19_000


def test_more_noise_keeps_the_noise_and_chunks_change_nothing(monkeypatch):
    values, index = np.zeros((64, 40), np.int32), np.arange(7, 71)
    less, more = (Corruption(share).add(values, index, 1, 255) for share in (0.1, 0.3))
    assert ((more == less) | (less == 0)).all() and not Corruption(0.0).add(values, index, 1, 255).any()
    monkeypatch.setattr("scaling.data.noise.CHUNK", 90)
    np.testing.assert_array_equal(Corruption(0.3).add(values, index, 1, 255), more)


def test_noise_of_text_belongs_to_the_window_in_every_epoch_and_evaluation_is_clean(load_prose):
    clean, noisy = load_prose(), load_prose(noise=0.2, dirty=0.5)
    changed = windows(clean) != windows(noisy)
    assert 0.07 < changed.mean() < 0.13 and 0.3 < changed.any(1).mean() < 0.7
    assert windows(noisy).min() >= 0 and windows(noisy).max() < 256
    known = {row.tobytes() for row in noisy.arrays()["tokens"].astype(np.int32)}
    assert all(row.tobytes() in known for row in windows(noisy, seed=3))  # in other orders, the same noise
    split = clean.splits[0]
    np.testing.assert_array_equal(clean.evaluation(split, 320)["tokens"], noisy.evaluation(split, 320)["tokens"])
    named = [load_prose(noise=share, dirty=dirty).fingerprint for share, dirty in ((0, 1), (0.2, 1), (0.1, 1), (0.2, 0.5))]
    assert len(set(named)) == 4
    assert clean.fingerprint == load_prose(noise=0.0, dirty=0.3).fingerprint


def test_noisy_text_is_equal_resident_and_streamed(load_prose):
    source = load_prose(noise=0.3)
    arrays = jax.tree.map(jnp.asarray, source.arrays())
    for step in (0, 3):
        np.testing.assert_array_equal(jax.jit(source.slice)(arrays, 5, step)["tokens"], source.batch(5, step)["tokens"])


def test_noisy_images_are_equal_resident_and_streamed_and_evaluation_is_clean(load_glyphs):
    options = {"levels": 16, "unique_examples": 24}
    clean, noisy = load_glyphs(**options), load_glyphs(noise=0.25, dirty=0.5, **options)
    arrays = jax.tree.map(jnp.asarray, noisy.arrays())
    for step in (0, 7):
        np.testing.assert_array_equal(jax.jit(noisy.slice)(arrays, 2, step)["image"], noisy.batch(2, step)["image"])
    first, again = (sorted(image.tobytes() for step in steps for image in noisy.batch(0, step)["image"])
                    for steps in (range(3), range(3, 6)))
    assert first == again and noisy.batch(0, 0)["image"].max() == 15
    pairs = [(clean.batch(0, step)["image"], noisy.batch(0, step)["image"]) for step in range(3)]
    dirty = [bool((a != b).any()) for left, right in pairs for a, b in zip(left, right, strict=True)]
    assert dirty == noisy.noise.is_dirty(np.arange(24)).tolist()
    np.testing.assert_array_equal(clean.evaluation("iid", 64)["image"], noisy.evaluation("iid", 64)["image"])
    assert clean.fingerprint != noisy.fingerprint


def test_runs_without_noise_keep_their_names_and_wrong_shares_are_refused(load_prose):
    for family in ("transformer", "vae"):
        base = experiment.from_config(experiment.config(family))
        assert {"data.noise", "data.dirty"} <= names.unnamed(base)
        assert "data.noise" not in names.unnamed(base.replace({"data.noise": 0.1}))
        with pytest.raises(ConfigError, match="data.noise=1.5 is out of range"):
            base.replace({"data.noise": 1.5})
        with pytest.raises(ConfigError, match="data.dirty=0.5 changes nothing without noise"):
            base.replace({"data.dirty": 0.5})
    with pytest.raises(ConfigError, match="data.noise=0.1 is for text, and data.name=hmm has none; write data.noise=0"):
        experiment.from_config(experiment.config()).replace({"data.name": "hmm", "data.noise": 0.1})
    with pytest.raises(DataError, match="data.noise=0.1 is for text, and hmm has none; write data.noise=0"):
        data.load_text("hmm", noise=0.1)
    with pytest.raises(DataError, match="data.dirty=-1 is out of range; write a share from 0 to 1"):
        load_prose(noise=0.1, dirty=-1)

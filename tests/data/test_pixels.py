"""Images as tokens: the same images as elsewhere, pixel by pixel, on the host and on the device."""

import jax
import numpy as np
import pytest

from scaling import cost, experiment
from scaling.data import load_images, load_text
from scaling.data.pixels import as_images, as_tokens, pixels_of
from scaling.fields import ConfigError, DataError
from scaling.store import files
from scaling.store.progress import Progress
from scaling.study.restore import restore
from scaling.sweeps.runner import Runner, TrainingOptions


def load(folder, name="pixels/4:teacher", **given):
    return load_text(name, **{"length": 64, "batch": 8, "data_dir": folder, "progress": False} | given)


def test_windows_are_the_pixels_of_the_images_after_a_zero(tmp_path):
    source, images = load(tmp_path), load_images("teacher", 8, 1, 4, 8, data_dir=tmp_path, progress=False)
    for seed, step in ((0, 0), (3, 5)):
        tokens, wanted = source.batch(seed, step)["tokens"], images.batch(seed, step)["image"]
        assert tokens.shape == (8, 65) and tokens.dtype == np.int32 and not tokens[:, 0].any()
        np.testing.assert_array_equal(as_images(tokens[:, 1:]), wanted)
        np.testing.assert_array_equal(as_tokens(wanted), tokens)
        on_device = jax.jit(source.slice)(source.arrays(), seed, step)["tokens"]
        np.testing.assert_array_equal(on_device, tokens)
    held_out = source.evaluation("iid", 640)
    np.testing.assert_array_equal(as_images(held_out["tokens"][:, 1:]), images.evaluation("iid", 10)["image"])
    assert held_out["bytes"].shape == (10, 64) and held_out["bytes"].all()
    assert source.entropy == images.entropy and source.vocab == 4


def test_few_tokens_are_few_images_and_other_images_other_data(tmp_path):
    few = load(tmp_path, unique_tokens=64 * 6)
    assert few.unique_tokens == 64 * 6 and few.images.unique_examples == 6
    names = ("pixels/4:teacher", "pixels/8:teacher", "pixels/4:teacher:seed=1")
    assert len({load(tmp_path, name).fingerprint for name in names}) == 3


@pytest.mark.parametrize("name,length,says", [
    ("pixels/4:teacher", 60, "data.length=60 is not the number of pixels of a square; write 49 for images of 7x7, or 64"),
    ("pixels/1:teacher", 64, "has '1' levels; write 2 to 256"), ("pixels/many:teacher", 64, "has 'many' levels")])
def test_wrong_sizes_and_levels_are_refused_before_anything_is_made(name, length, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        experiment.from_config(experiment.config("transformer", **{"data.name": name, "data.length": length}))
    with pytest.raises((ConfigError, DataError), match=says):
        load(tmp_path, name, length=length)
    assert pixels_of("text:pixels/4") is None


@pytest.mark.slow
def test_a_transformer_learns_pixels_in_bits_per_dimension(tmp_path):
    e = experiment.from_config(experiment.config("transformer", **{
        "data.name": "pixels/4:teacher", "data.length": 64, "data.batch": 8, "data.tokens": 64 * 8 * 60, "family.width": 16,
        "family.layers": 1, "family.head_dim": 16, "data.evaluation_tokens": 64 * 64, "optim.warmup": 4,
        "optim.learning_rate": 0.02, "data.data_dir": str(tmp_path / "data")}))
    assert e.family.vocab == 4 and cost.param_count(e.family)["total"] < 10_000
    runner = Runner(files.open_workdir(tmp_path / "runs"), TrainingOptions())
    runner.run(runner.plan([e], 1), Progress(1, silent=True))
    [name] = runner.records.fingerprints()
    record, run = runner.records.read(name), restore(tmp_path / "runs", name)
    assert load(tmp_path / "data").entropy.bits < record["bits_per_byte"] < 2.0  # two bits are those of four levels
    assert record["bits_per_byte"] == pytest.approx(record["loss"] / np.log(2), rel=1e-5)
    assert set(run.generate(["0 "], tokens=8)[0].split()) <= set("0123")

"""TPU chips and slices: coherent numbers, and topologies that exist."""

import pytest

from scaling.devices import chips
from scaling.fields import ConfigError


@pytest.mark.parametrize("chip", chips.CHIPS.values(), ids=lambda c: c.name)
def test_published_numbers_are_coherent(chip):
    assert chip.source.startswith("https://")
    assert 0.9 < chip.usable * chip.devices / chip.hbm < 1.1
    assert chip.peak / chip.hbm_rate > 100  # FLOPs a byte: matrix products are what such chips are for
    assert chip.hbm_rate > 2 * chip.torus * chip.link > chip.dcn
    assert chips.memory(chip.kind) == int(chip.usable)
    sizes = [chips.parse_topology(f"{chip.name}:{shape}").chips for shape in chips.ladder(chip)]
    assert sizes == sorted(sizes) and sizes[-1] <= chip.largest


def test_the_memory_of_other_devices_is_not_known():
    assert chips.memory("cpu") is None and chips.memory("NVIDIA H200") is None


def test_slices():
    two = chips.parse_topology("v5p:8x8x16", 2)
    assert (two.chips, two.devices, two.name, two.wrap) == (2048, 2048, "v5p:8x8x16", (True, True, True))
    assert chips.parse_topology("tpu7x:2x2x1").devices == 8 and chips.parse_topology("v5e:16x16").wrap == (True, True)
    assert chips.parse_topology("v5e:8x16").wrap == (False, True)


@pytest.mark.parametrize("text, says", [
    ("v5x:2x2", "'v5x' is not known; nearest: v5p"), ("v5p", "such as v5p:4x4x4"),
    ("v5p:8x8", "3 dimensions"),
    ("v5e:3x3", "write one of 1x1, 2x2"), ("v5e:16x32", "largest slice of v5e has 256"),
    ("v5p:0x2x2", "such as v5p:4x4x4")])
def test_topologies_that_do_not_exist_are_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        chips.parse_topology(text)

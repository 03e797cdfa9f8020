"""tools.launch: TPU slices by name, and words that survive any number of shells."""

import subprocess

import pytest
from boxed_flags import Box
from clouds import HOSTILE

with Box():
    from tools.launch import accelerators, shell

# ----- slices


@pytest.mark.parametrize("text, chips, hosts, cloud_name, xpk", [
    ("v5e-16", 16, 4, "v5litepod-16", "v5litepod-16"), ("v5litepod-8", 8, 1, "v5litepod-8", "v5litepod-8"),
    ("v5e:16x16", 256, 64, "v5litepod-256", "v5litepod-256"), ("v6e-1", 1, 1, "v6e-1", "v6e-1"),
    ("v4-8", 4, 1, "v4-8", "v4-8"), ("v5p-32", 16, 4, "v5p-32", "v5p-32"),
    ("v5p:4x4x8", 128, 32, "v5p-256", "v5p-4x4x8"), ("v5p:16x16x24", 6144, 1536, "v5p-12288", "v5p-16x16x24"),
    ("tpu7x-128", 64, 16, "tpu7x-128", "tpu7x-128"), ("ironwood:2x2x1", 4, 1, "tpu7x-8", "tpu7x-2x2x1")])
def test_a_slice_is_known_by_size_and_by_shape(text, chips, hosts, cloud_name, xpk):
    part = accelerators.parse(text)
    assert (part.chips, part.hosts, part.accelerator_type, part.xpk_type) == (chips, hosts, cloud_name, xpk)


@pytest.mark.parametrize("text, says", [
    ("v5e-12", "v5e-8"), ("v9-8", "v4, v5e, v5p, v6e, tpu7x"), ("v5p-4", "TensorCores"),
    ("v5e:4x5", "4x4, 4x8"), ("v5p:8x4x4", "ascending"), ("v5e:16", "mixes"), ("v5e-4x4", "mixes"),
    ("sixteen", "v5e-16"),
    ("v5p:16x16x28", "6144"), ("v5e-16; rm", "not a slice")])
def test_a_slice_that_does_not_exist_is_refused_with_ones_that_do(text, says):
    with pytest.raises(accelerators.AcceleratorError, match=says):
        accelerators.parse(text)


@pytest.mark.parametrize("name", accelerators.GENERATIONS)
def test_every_shape_has_a_size_and_whole_hosts(name):
    for shape in accelerators.shapes(name):
        by_shape = accelerators.parse(f"{name}:{shape}")
        by_size = accelerators.parse(f"{name}-{by_shape.chips * by_shape.of.cores}")
        assert by_size.chips == by_shape.chips and by_size.hosts == by_shape.hosts
        assert by_shape.chips < 8 or by_shape.chips % by_shape.hosts == 0


def test_runtimes_belong_to_their_generation():
    v5e, v5p = accelerators.parse("v5e-16"), accelerators.parse("v5p-8")
    assert accelerators.check_runtime(v5e, "") == "v2-alpha-tpuv5-lite"
    assert accelerators.check_runtime(v5p, "v2-alpha-tpuv5-next") == "v2-alpha-tpuv5-next"
    for part, version in ((v5p, "v2-alpha-tpuv5-lite"), (v5e, "v2-alpha-tpuv5"), (v5e, "tpu-vm-tf-2.18.0")):
        with pytest.raises(accelerators.AcceleratorError, match="does not belong"):
            accelerators.check_runtime(part, version)
    with pytest.raises(accelerators.AcceleratorError, match="tools.launch.gke"):
        accelerators.check_runtime(accelerators.parse("tpu7x-8"), "")


# ----- quoting


@pytest.mark.parametrize("escape", ["", "$"])
def test_quoted_words_survive_bash_and_stay_on_one_line(escape):
    line = shell.join(HOSTILE, escape)
    assert "\n" not in line and not set(escape) & set(line.replace("$'", ""))
    once = subprocess.check_output(["bash", "-c", f"printf '%s\\0' {line}"])
    twice = subprocess.check_output(["bash", "-c", shell.bash(f"printf '%s\\0' {line}")])
    assert once == twice == b"".join(w.encode() + b"\0" for w in HOSTILE)

"""tools.bench_accelerator with tiny sizes: every piece measures something, and one that fails does not stop the rest."""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is run from a checkout and not installed

from tools import _accelerator, bench_accelerator  # noqa: E402

HEAVY = ("tensorflow_datasets", "grain", "array_record", "tokenizers", "tensorboardX", "pandas")  # not on every GPU machine


def bench(path, *argv, devices=2, before="", **variables):
    """Runs the command where the modules of HEAVY cannot be imported: (standard output, content of the file)."""
    code = f"import runpy, sys\nfor name in {HEAVY}: sys.modules[name] = None\n{before}\n" \
           "sys.argv[1:] = sys.argv[1:]\nrunpy.run_module('tools.bench_accelerator', run_name='__main__', alter_sys=True)"
    environment = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
                                "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run([sys.executable, "-c", code, "--small", f"--output={path}", *argv], cwd=ROOT, text=True,
                          env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not path.with_suffix(".lines").exists()
    return done.stdout, json.loads(path.read_text())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return bench(tmp_path_factory.mktemp("bench") / "all.json", "--budget_seconds=600",
                 "--pieces=products,models,packed,attention,loss,remat,convolutions")


def of(content, piece):
    return [entry for entry in content["measurements"] if entry["piece"] == piece]


@pytest.mark.slow
def test_every_piece_is_measured_printed_and_written(small):
    said, content = small
    assert not [entry for entry in content["measurements"] if "failed" in entry]
    assert {"products", "100M", "1B", "packed", "attention", "loss", "remat full", "convolutions", "goals"} <= {
        e["piece"] for e in content["measurements"]}
    assert all(entry["text"] in said for entry in content["measurements"])
    assert content["device"]["count"] == 2 and content["seconds"] < content["budget_seconds"]


@pytest.mark.slow
def test_rates_follow_from_seconds_and_counts(small):
    rate = next(e["measured"] for e in of(small[1], "products") if "measured" in e)
    [one] = of(small[1], "1B")
    assert one["units"] == one["batch"] * _accelerator.SMALL.length and one["batch"] == 2 * 2  # two per device
    assert one["rate"] == pytest.approx(one["units"] / one["seconds"])
    assert one["flop_rate"] == pytest.approx(one["flops"] / one["seconds"] / 2)
    assert one["mfu"] == {"measured": pytest.approx(one["flop_rate"] / rate)}  # a CPU has no published rate
    sixth = 6 * one["params"]["non_embedding"] * one["units"]
    assert sixth < one["flops"] < 6 * sixth  # tiny models have large attention and readout
    packs = of(small[1], "packed")
    assert [entry["runs"] for entry in packs] == [1, 2] and packs[0]["ratio"] == 1
    assert packs[1]["ratio"] == pytest.approx(packs[1]["rate"] / packs[0]["rate"])


@pytest.mark.slow
def test_kernels_losses_and_rematerialisations_are_compared(small):
    assert [entry["attention"] for entry in of(small[1], "attention")] == ["xla", "cpu"]
    blocks, whole = of(small[1], "loss")
    assert (blocks["loss"], whole["loss"]) == ("blocks", "whole") and blocks["ms"] > 0 < whole["ms"]
    assert whole["temporaries"] >= 4 * 16 * 4096
    plain, full = (of(small[1], f"remat {name}")[0] for name in ("none", "full"))
    assert plain["flops"] == full["flops"] and plain["donated"] and full["how"] == {"remat": "full"}


@pytest.mark.slow
def test_a_piece_that_runs_out_of_memory_dies_or_takes_too_long_is_reported_and_the_rest_go_on(tmp_path):
    break_them = """
import os, time
from tools import _accelerator as a
def products(sizes, note, left):
    note("one", measured=1.0)
    os.abort()
def model(name, size, rows, how, sizes, measured, note, left):
    if not how:
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 1 byte")
    note(f"{name} {sorted(how)}", model=name, mfu={"measured": 0.6})
def convolutions(sizes, note, left):
    note("begun")
    time.sleep(60)
a.products, a.model, a.convolutions = products, model, convolutions
"""
    said, content = bench(tmp_path / "broken.json", "--pieces=products,models,convolutions", "--budget_seconds=6",
                          before=break_them)
    failed = {entry["piece"]: entry["failed"] for entry in content["measurements"] if "failed" in entry}
    assert failed == {"products": "died", "100M": "memory", "1B": "memory", "convolutions": "time"}
    assert [e["model"] for e in content["measurements"] if "model" in e] == ["100M", "1B"]  # the other setting was tried
    assert "begun" in said and "60.0% of the measured rate, where 50% is the goal: reached" in said
    assert content["seconds"] < 10


@pytest.mark.slow
def test_tests_run_in_a_process_of_their_own_and_their_result_is_reported():
    found = []
    bench_accelerator.run_tests(["test_axes"], lambda text, **values: found.append((text, values)), lambda: 120)
    [(text, values)] = found
    assert text.startswith("tests on cpu: ") and " passed" in text and values["status"] == 0
    bench_accelerator.run_tests(["test_axes"], lambda text, **values: found.append((text, values)), lambda: 0.1)
    assert found[1][1]["failed"] == "time"


def test_the_ways_to_convolve_give_the_same_numbers_and_gradients():
    x, g = (jax.random.normal(jax.random.key(i), (3, 2, 6, 6, 4)) for i in range(2))
    w = jax.random.normal(jax.random.key(2), (3, 3, 3, 4, 4))
    expected, pull = jax.vjp(_accelerator.WAYS["loop"], x, w)
    for way, forward in _accelerator.WAYS.items():
        lay = _accelerator.merged if way == "grouped" else lambda x: x
        found, pulled = jax.vjp(forward, lay(x), w)
        np.testing.assert_allclose(found, lay(expected), atol=1e-4)
        for ours, theirs in zip(pulled(lay(g)), (lay(pull(g)[0]), pull(g)[1])):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_seconds_are_per_repetition():
    clock = jnp.zeros(())
    assert 0.005 <= _accelerator.seconds(lambda times: time.sleep(0.005 * times) or clock, 0.1) < 0.05


def test_importing_the_command_touches_no_device():
    """Processes are forked: one that had the device already could not share it. A platform that JAX does not know is an
    error as soon as a device is touched."""
    code = ("import tools.bench_accelerator, jax\nprint('imported', flush=True)\n"
            "try:\n    jax.devices()\nexcept RuntimeError:\n    print('refused')")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"JAX_PLATFORMS": "nowhere"})
    assert done.stdout == "imported\nrefused\n", done.stderr


def test_published_rates_are_found_by_the_device_kinds_of_jax():
    for kind, rate in {"NVIDIA H200": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H100 80GB HBM3": 989e12,
                       "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA L4": 121e12, "NVIDIA L40S": 362e12, "TPU v5 lite": 197e12,
                       "cpu": None}.items():
        assert _accelerator.published(kind) == rate


@pytest.mark.slow
def test_the_default_tests_need_one_device_only():
    found = []
    bench_accelerator.run_tests(bench_accelerator.TESTS, lambda text, **values: found.append(values), lambda: 900)
    assert found[0]["status"] == 0, found[0]["said"]

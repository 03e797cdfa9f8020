"""Compiling for chips that are not here: bytes of the state, the search for what fits, reports, the command."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from scaling import experiment as experiments
from scaling.devices import chips
from scaling.pods import search
from scaling.pods.attempt import attempt
from scaling.pods.table import format_report, policies_header, policy_row, report_header, report_row

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: .[pods]")
ROOT = pathlib.Path(__file__).parents[2]


def tiny(**changes):
    changes = {"family.size": 2e4, "data.batch": 8, "data.length": 32, "data.tokens": 2**16, "family.scan": True, **changes}
    return experiments.from_config(experiments.config("transformer", **changes))


# ----------------------------------------------------------------------------------- bytes, what fits


def held(e, topology, mesh=""):
    """(bytes of parameters, bytes of optimiser state) on one device; this needs no libtpu."""
    where = chips.parse_topology(topology)
    found = search.held_bytes(e, where, mesh)
    return found["parameters"], found["optimiser"]


def test_state_falls_as_the_mesh_grows_under_fsdp_and_not_under_data():
    sizes = {"family.size": 1e8, "family.width": 1024, "family.layers": 8}
    e = experiments.from_config(experiments.config("transformer", layout="fsdp", **sizes))
    small, large = held(e, "v5p:2x2x1"), held(e, "v5p:4x4x4")
    for before, after in zip(small, large):
        assert before / after == pytest.approx(16, rel=0.02)
    whole = e.replace({"layout": "data"})
    assert held(whole, "v5p:2x2x1") == held(whole, "v5p:4x4x4")
    assert held(whole, "v5p:2x2x1")[0] == pytest.approx(4 * small[0], rel=0.02)


def test_a_state_that_is_too_large_is_known_without_compiling():
    e = experiments.from_config(experiments.config("transformer", **{"family.size": 1e10, "layout": "data"}))
    assert not search.could_fit(e, "v5e:16x16")
    assert search.could_fit(e.replace({"layout": "fsdp"}), "v5p:8x8x8")


# --------------------------------------------------------------------------- through the TPU's compiler


@pytest.fixture(scope="module")
def report():
    return attempt(tiny(layout="fsdp"), "v5e:2x2")


@needs_libtpu
def test_a_report_is_complete(report):
    assert report["fits"] and report["devices"] == 4 and report["mesh"]["fsdp"] == 4
    sizes = report["bytes"]
    assert sizes["parameters"] > 0 and sizes["optimiser"] == pytest.approx(2 * sizes["parameters"], rel=0.05)
    assert sizes["parameters"] + sizes["optimiser"] < sizes["peak"] < sizes["memory"]
    assert {"all-gather"} <= {row["kind"].split(" in ")[0] for row in report["collectives"]}
    assert all(row["axes"] == ["fsdp"] and row["network"] == "ici" for row in report["collectives"])
    assert report["flops"]["compiled"] == pytest.approx(report["flops"]["model"], rel=0.3)
    assert report["roofline"]["bound"] in ("compute", "hbm", "ici") and 0 < report["roofline"]["mfu_serial"] < 1
    assert report["compile"]["compile_seconds"] > 0 and report["chip"]["source"].startswith("https://")
    json.dumps(report)
    text = format_report(report)
    assert "fits" in text and "fsdp=4" in text and "all-gather" in text


@needs_libtpu
def test_tables_have_the_bytes_that_a_step_sends_and_as_many_cells_as_their_heads(report):
    sent = sum(row["sent"] for row in report["collectives"])
    tables = (report_header(), report_row(report)), (policies_header(), policy_row("dots", report))
    for head, row in tables:
        assert row.count("|") == head.splitlines()[0].count("|") and f"| {sent / 1e6:.4g} |" in row
    unfit = {**report, "fits": False}
    assert policy_row("none", unfit).count("|") == policies_header().splitlines()[0].count("|")
    assert f"{sent / 1e6:.3f}" in format_report(report)


@needs_libtpu
def test_the_report_on_a_program_that_does_not_fit_has_a_change_that_does(monkeypatch, report):
    """Small programs fit everywhere, so the test replaces the compiler's answers. The order of the search is real."""
    asked = []

    def attempt(e, topology, slices=1, mesh="", runs=1):
        asked.append((e.family.remat, e.layout, topology))
        fits = e.family.remat == "full" and e.layout == "fsdp_tensor"
        return {**report, "fits": fits, "why": "out of memory", "topology": topology}

    monkeypatch.setattr(search, "attempt", attempt)
    found = search.nearest_that_fits(tiny(layout="fsdp"), "v5e:2x2")
    assert found["change"] == "--config.layout=fsdp_tensor --config.family.remat=full --config.microbatch=1"
    assert asked[0] == ("none", "fsdp", "v5e:2x2") and {where for *_, where in asked} == {"v5e:2x2"}
    assert "DOES NOT FIT" in format_report(found) and "What fits" in format_report(found)


@needs_libtpu
@pytest.mark.slow
def test_a_program_too_large_is_refused_by_the_compiler_and_a_microbatch_fits():
    whole = tiny(**{"family.size": 3e5, "data.batch": 4096, "data.length": 512, "data.tokens": 2**24, "microbatch": 4096,
                    "family.remat": True, "optim.warmup": 0})
    found = search.nearest_that_fits(whole, "v5e:1x1")
    assert not found["fits"] and found["bytes"]["peak"] > found["bytes"]["memory"] and "exceeds" in found["why"]
    assert found["change"] == "--config.microbatch=0" and found["instead"]["gradients_per_step"] > 1
    assert found["instead"]["bytes"]["peak"] < found["instead"]["bytes"]["memory"]


@needs_libtpu
@pytest.mark.slow
def test_the_smallest_slice_is_found():
    e = experiments.from_config(experiments.config("transformer", **{
        "family.size": 1e9, "family.dtype": "bfloat16", "family.scan": True, "data.batch": 64, "data.length": 512,
        "data.tokens": 2**20, "layout": "fsdp"}))
    found = search.smallest(e, "v5e")
    assert found["fits"] and found["chips"] > 1


def test_the_command_refuses_in_one_sentence():
    command = [sys.executable, "-m", "experiments.compile_for", "--config=configs/pod.py", "--topology=v5x:4x4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.strip().count("\n") == 0
    assert "the chip 'v5x' is not known; nearest: v5p" in done.stderr


@needs_libtpu
def test_installing_libtpu_leaves_ordinary_commands_alone():
    """Otherwise JAX would load libtpu on a machine without a TPU, print a page of warnings and take a lock."""
    code = ("from scaling.devices import layouts; layouts.one_cpu_device_per_core(); import jax;"  # how the commands begin
            "print(jax.devices()[0].platform)")
    kept = {k: v for k, v in os.environ.items() if k not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, check=True)
    if chips.machine_has_accelerator():
        pytest.skip("this machine has an accelerator of its own, which JAX is left to find")
    assert done.stdout.strip() == "cpu" and "libtpu" not in done.stderr.lower() and "WARNING" not in done.stderr

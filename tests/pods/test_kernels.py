"""Kernels and losses of large models, compiled for TPUs that are not here: what they save, and how they are counted."""

import importlib.util

import pytest

from scaling import cost
from scaling import experiment as experiments
from scaling.pods import hlo, work
from scaling.pods.attempt import attempt

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: .[pods]")

KERNEL = """HloModule kernel
ENTRY %main (s: s8[1,1,1], q: bf16[2,4,1024,128]) -> bf16[2,4,1024,128] {
  %s = s8[1,1,1]{2,1,0} parameter(0)
  %q = bf16[2,4,1024,128]{3,2,1,0} parameter(1)
  %splash_mha_fwd_residuals.1 = (f32[2,512,128]{2,1,0}, f32[2,512,128]{2,1,0}, f32[2,512,128]{2,1,0}, bf16[2,4,1024,128]{3,2,1,0}) custom-call(%s, %s, %q, %q, %q), custom_call_target="tpu_custom_call"
  ROOT %out = bf16[2,4,1024,128]{3,2,1,0} get-tuple-element(%splash_mha_fwd_residuals.1), index=3
}
"""  # noqa: E501


def test_kernels_of_a_compiled_program_are_counted_by_their_shapes_and_blocks():
    """Two products of 8 heads of sequences in 3 of 4 blocks of 512 x 512."""
    found = work.compiled_flops(hlo.HloModule(KERNEL))
    assert found == 2 * 2 * 8 * 128 * 3 * 512**2 == cost.splash_flops("splash_mha_fwd", 8, 1024, 1024, 128, 512)
    assert cost.splash_flops("splash_mha_fwd", 8, 1024, 2048, 128, 512) == found / 3 * 7  # the other keys are all seen


def large(**changes):
    changes = {"family.size": 2e4, "family.width": 256, "family.heads": 2, "family.kv_heads": 1, "family.layers": 2,
               "family.dtype": "bfloat16", "family.scan": True, "data.length": 1024, "data.batch": 16,
               "data.tokens": 2**20, "layout": "fsdp", **changes}
    return experiments.from_config(experiments.config("transformer", **changes))


@needs_libtpu
@pytest.mark.slow
def test_splash_attention_compiles_for_a_divided_batch_and_saves_memory_and_traffic():
    plain, splash = (attempt(large(**{"family.attention": way}), "v5e:2x2") for way in ("xla", "auto"))
    assert splash["bytes"]["temporaries"] < plain["bytes"]["temporaries"] / 2
    assert splash["traffic"] < plain["traffic"] / 2
    model = plain["flops"]["model"]
    assert splash["flops"]["model"] == model and model <= splash["flops"]["compiled"] < plain["flops"]["compiled"]


@needs_libtpu
@pytest.mark.slow
def test_splash_attention_compiles_for_divided_positions_and_keeps_no_scores():
    e = large(layout="sequence", **{"data.length": 4096, "data.batch": 4, "data.tokens": 2**20})
    plain, splash = (attempt(e.replace({"family.attention": way}), "v5e:2x2", mesh="sequence=4") for way in ("xla", "auto"))
    assert splash["bytes"]["temporaries"] < plain["bytes"]["temporaries"] / 2
    # The queries of the last device see nearly all keys, so it skips few blocks, and the kernel computes scores twice.
    assert splash["flops"]["compiled"] < 1.1 * plain["flops"]["compiled"]
    sent = [sum(row["sent"] for row in report["collectives"]) for report in (plain, splash)]
    assert sent[1] < 1.1 * sent[0]


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("layout,mesh", [("fsdp", ""), ("fsdp_tensor", "fsdp=2,tensor=2")])
def test_a_loss_in_blocks_compiles_with_less_memory_and_sends_as_much(layout, mesh):
    e = large(layout=layout, **{"data.length": 512, "family.kv_heads": 2}).replace({"family.vocab": 2**17, "microbatch": 4})
    whole, blocks = (attempt(e.replace({"family.cross_entropy": way}), "v5e:2x2", mesh=mesh) for way in ("whole", "blocks"))
    assert blocks["bytes"]["temporaries"] < 0.6 * whole["bytes"]["temporaries"]
    assert blocks["flops"]["model"] == whole["flops"]["model"] and blocks["flops"]["compiled"] > whole["flops"]["compiled"]
    sent = [sum(row["sent"] for row in report["collectives"]) for report in (whole, blocks)]
    assert sent[1] < 1.3 * sent[0]

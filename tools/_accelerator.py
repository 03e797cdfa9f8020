"""The measurements of tools.bench_accelerator.

Each function runs in its own process, which has the device to itself. It passes each result to `note(text, **values)` at
once, and `left()` is the number of seconds it still has.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from scaling import cost, families
from scaling import experiment as experiments
from scaling.devices import chips
from scaling.experiment import Text, kind_read
from scaling.nn import remat
from scaling.training.program import Program
from scaling.training.step import run_span

REPEATS = 3


class Sizes(NamedTuple):
    """The sizes of all measurements."""

    seconds: float = 3.0  # of one measurement
    products: tuple[int, ...] = (4096, 8192, 16384)
    models: tuple[tuple[str, float, int], ...] = (("100M", 1e8, 64), ("1B", 1e9, 32))  # name, size, sequences per device
    length: int = 2048
    vocab: int = 32768
    packs: tuple[int, ...] = (1, 4, 16, 64)
    packed: float = 1e5  # parameters of each run
    images: float = 1e5  # parameters of each run of a convolutional GAN
    convolutions: tuple[tuple[int, int], ...] = ((32, 32), (64, 16), (256, 8))  # channels, side
    runs: int = 16  # of the convolutions, and `batch` images each
    batch: int = 64
    attention: tuple[int, ...] = (8, 2048, 16, 128)  # sequences, length, heads, dimensions of a head
    loss: tuple[int, ...] = (8192, 2048, 131072)  # tokens, width, words
    remat: tuple[str, ...] = remat.NAMES  # of the smaller model


SMALL = Sizes(0.05, (64, 128), (("100M", 5e3, 2), ("1B", 1e4, 2)), 32, 64, (1, 2), 5e3, 5e3, ((4, 8),), 2, 2,
              (2, 64, 2, 8), (16, 8, 4096), ("none", "full"))

# Dense bfloat16 FLOP/s, without sparsity, from NVIDIA's datasheets. Those of TPUs are in scaling.devices.chips.
PUBLISHED = {"H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "GH200": 989e12, "B200": 2250e12,
             "A100": 312e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12, "A10G": 70e12, "A10": 125e12}


class Examples:
    """A source of the family's own random batches, drawn on the device at every step."""

    def __init__(self, family, batch):
        self.family, self.batch = family, batch

    def arrays(self):
        return {}

    def slice(self, arrays, seed, step):
        return self.family.example_batch(self.batch, jax.random.fold_in(jax.random.key(7), step))


def seconds(call: Callable[[int], object], total: float) -> float:
    """Seconds of one repetition, where `call(times)` does several: the best of three calls that take about `total` seconds
    together."""
    def clock(times):
        start = time.perf_counter()
        jax.block_until_ready(call(times))
        return (time.perf_counter() - start) / times

    clock(1)  # compiles
    times = max(1, int(total / REPEATS / clock(2)))
    return min(clock(times) for _ in range(REPEATS))


def published(kind: str) -> float | None:
    """Published bfloat16 FLOP/s of a device of this `jax.Device.device_kind`; None where it is not known."""
    tpu = next((chip.share(chip.peak) for chip in chips.CHIPS.values() if chip.kind == kind), None)
    return tpu or next((rate for name, rate in PUBLISHED.items() if name in kind), None)


def device() -> dict:
    first = jax.devices()[0]
    stats = first.memory_stats() or {}
    return {"kind": first.device_kind, "platform": jax.default_backend(), "count": jax.device_count(),
            "memory": stats.get("bytes_limit"), "published": published(first.device_kind), "jax": jax.__version__}


def products(sizes: Sizes, note, left):
    """The rate of bfloat16 matrix products on one device. Factors are random, since zeros multiply faster."""
    peak, rates = published(jax.devices()[0].device_kind), {}
    loop = jax.jit(lambda x, w, times: lax.fori_loop(0, times, lambda _, x: x @ w, x))
    for n in sizes.products:
        x, w = (jax.random.normal(jax.random.key(i), (n, n), jnp.bfloat16) * n**-0.5 for i in range(2))
        rates[n] = 2 * n**3 / seconds(functools.partial(loop, x, w), sizes.seconds / 2)
        beside = f", {rates[n] / peak:.0%} of the published {peak / 1e12:.0f}" if peak else ""
        note(f"product {n}: {rates[n] / 1e12:.4g} TFLOP/s{beside}", size=n, rate=rates[n])
        if left() < 5 * sizes.seconds:
            break
    note(f"bfloat16 matrix products: {max(rates.values()) / 1e12:.4g} TFLOP/s", measured=max(rates.values()))


def step(family, batch: int, runs: int, total: float, layout="", microbatch=0, steps_per_call=256) -> dict:
    """Seconds, memory and rate of one step of the train loop with its optimiser, for packed `runs` over all devices."""
    shape = {"length": family.length} if family.reads == "text" else {}
    data = kind_read(family)(batch=batch, **shape)
    data = dataclasses.replace(data, **{data.unit: data.per_step * 10**6})
    e = experiments.Experiment(family=family, data=data, microbatch=microbatch)
    e = e.replace({"layout": layout or e.layout})
    program = Program(e, Examples(family, batch), runs, steps_per_call=steps_per_call)
    pack = [e.replace({"seed": seed}) for seed in range(runs)]
    state, spans, found = program.init(pack), [run_span(e)] * runs, {}
    first_state = jax.tree.leaves(state)

    def call(times):
        nonlocal state
        state, found["metrics"] = program.advance(state, pack, spans, times)
        return state.step

    start = time.perf_counter()
    jax.block_until_ready(call(1))
    first = time.perf_counter() - start
    each = seconds(call, total)
    if (np.asarray(found["metrics"]["diverged"])[:, 0] >= 0).any():
        raise FloatingPointError("the loss or its gradient is not finite")
    peak = max((d.memory_stats() or {}).get("peak_bytes_in_use", 0) for d in jax.local_devices())
    return {"seconds": each, "compile_seconds": first - each, "pieces": program.accumulation_steps,
            "units": runs * data.per_step, "rate": runs * data.per_step / each, "unit": data.unit, "peak_bytes": peak,
            "batch": batch, "runs": runs, "donated": all(x.is_deleted() for x in first_state)}


def model(name: str, size: float, rows: int, how: dict, sizes: Sizes, measured: float | None, note, left):
    """A rung of the ladder, in bfloat16 unless `how` says otherwise: tokens/s, and its model FLOPs as a share of the
    devices' rate.

    Model FLOPs are the matrix products of loss and gradient, with causal attention at half of its square. Recomputation
    does not count (the MFU of Chowdhery et al. 2204.02311, appendix B).
    """
    how, count = dict(how), jax.device_count()
    microbatch, batch = how.pop("microbatch", 0), rows * count
    shape = {"dtype": "bfloat16", "length": sizes.length, "vocab": sizes.vocab}
    family = families.find("transformer").ladder(size, **shape | how)
    flops = batch * cost.train_flops(family, 1)
    found = step(family, batch, 1, 2 * sizes.seconds, "fsdp" if count > 1 else "", microbatch, 64)
    rate, peak = flops / found["seconds"] / count, published(jax.devices()[0].device_kind)
    shares = {k: rate / v for k, v in {"measured": measured, "published": peak}.items() if v}
    said = ", ".join(f"{share:.1%} of the {k} rate" for k, share in shares.items()) or "of an unknown rate"
    held = f", peak {found['peak_bytes'] / 2**30:.1f} GiB" if found["peak_bytes"] else ""
    held += "" if found["donated"] else ", BUFFERS OF THE STATE ARE NOT DONATED"
    note(f"{name} ({family.width}x{family.layers}, {how_named(how, found['pieces'])}): {found['rate']:,.0f} tokens/s, "
         f"{found['seconds']:.3g} s per step of {found['units']:,} tokens, {rate / 1e12:.4g} TFLOP/s per device: {said}; "
         f"{found['compile_seconds']:.0f} s to compile{held}",
         model=name, width=family.width, layers=family.layers, params=cost.param_count(family), flops=flops, how=how,
         mfu=shares, flop_rate=rate, **found)


def how_named(how: dict, pieces: int) -> str:
    """The settings of a model in words, such as "remat=full 4 microbatches"."""
    settings = [name if value is True else f"{name}={value}" for name, value in how.items()]
    return " ".join([*settings, "1 microbatch" if pieces == 1 else f"{pieces} microbatches"])


def packed(member: str, how: dict, sizes: Sizes, note, left):
    """Small runs packed into one program: units per second of all of them, and the ratio to one run alone."""
    alone, kind = None, families.find(member)
    small = kind.ladder(sizes.packed if kind.reads == "text" else sizes.images, **how)
    batch = max(jax.device_count(), kind_read(kind)().batch if sizes.runs > 2 else 2)
    if kind.reads == "text":
        small = dataclasses.replace(small, length=Text().length)
    for runs in sizes.packs:
        if alone and left() < 30 and sizes.seconds > 1:
            note(f"{runs} packed {member}s: skipped, the time of this piece is up", runs=runs, failed="time")
            continue
        found = step(small, batch, runs, sizes.seconds)
        alone = alone or found["rate"]
        note(f"{runs} packed {member}s of {cost.param_count(small)['non_embedding']:,} parameters"
             f"{''.join(f', {k}={v}' for k, v in how.items())}: {found['rate']:,.0f} {found['unit']}/s, "
             f"{found['rate'] / alone:.2f} times one alone; {found['compile_seconds']:.0f} s to compile",
             member=member, how=how, ratio=found["rate"] / alone, **found)


# ------------------------------------------------------------------------------------------ convolutions


def _convolve(x, w, groups=1):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                    feature_group_count=groups)


def _loop(x, w):
    return jnp.stack([_convolve(*run) for run in zip(x, w)])


def _products(x, w):
    """Nine shifts and one matrix product per run."""
    side, padded = x.shape[2], jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    near = jnp.concatenate([padded[:, :, i:i + side, j:j + side] for i in range(3) for j in range(3)], -1)
    return jnp.einsum("kbhwc,kcd->kbhwd", near, w.reshape(w.shape[0], -1, w.shape[-1]))


def _grouped(x, w):
    """x [B, H, W, K C]: the runs stay groups of channels, so that nothing is transposed."""
    return _convolve(x, jnp.concatenate(list(w), -1), w.shape[0])


WAYS = {"vmap": jax.vmap(_convolve), "loop": _loop, "products": _products, "grouped": _grouped}


def merged(x):
    """[K, B, H, W, C] -> [B, H, W, K C], the input and output of `_grouped`."""
    return jnp.moveaxis(x, 0, 3).reshape(*x.shape[1:4], -1)


def convolutions(sizes: Sizes, note, left):
    """3x3 convolutions of `runs` runs in bfloat16: ms of the forward pass and of both gradients, computed in four ways."""
    for channels, side in sizes.convolutions:
        shape = (sizes.runs, sizes.batch, side, side, channels)
        x, g = (jax.random.normal(jax.random.key(i), shape, jnp.bfloat16) for i in range(2))
        w = jax.random.normal(jax.random.key(2), (sizes.runs, 3, 3, channels, channels), jnp.bfloat16) / channels
        found = {}
        for way, forward in WAYS.items():
            if left() < 5 * sizes.seconds:
                note(f"convolutions, {channels} channels {side}x{side}, {way}: skipped, the time of this piece is up",
                     channels=channels, side=side, way=way, failed="time")
                continue
            xs, gs = (merged(x), merged(g)) if way == "grouped" else (x, g)
            backward = jax.jit(lambda x, w, g, forward=forward: jax.vjp(forward, x, w)[1](g))
            found[way] = [1e3 * seconds(again(call, *args), sizes.seconds / 4)
                          for call, args in ((jax.jit(forward), (xs, w)), (backward, (xs, w, gs)))]
        flops = 2 * 9 * np.prod(shape) * channels  # without the padding
        said = "; ".join(f"{way} {ahead:.3g} and {back:.3g} ms ({3e3 * flops / (ahead + back) / 1e12:.3g} TFLOP/s)"
                         for way, (ahead, back) in found.items())
        note(f"convolutions of {sizes.runs} runs, {sizes.batch} images, {channels} channels {side}x{side}, forward and "
             f"backward: {said}", channels=channels, side=side, ms=found)


def again(call, *args):
    """`seconds` of the result calls `call(*args)` again and again."""
    def times(count):
        out = None
        for _ in range(count):
            out = call(*args)
        return out
    return times

"""How fast batches reach the devices, in tokens per second, and what processor time that takes.

    python -m tools._loader_rates

prints a table, and compares a streamed with a resident run of a small Transformer. The data are random and lie in a
temporary directory: windows of 256 tokens in both storages, and colour images of 32 pixels, of which each of the 3,072
numbers counts as a token. On a CPU there is one XLA device per core, as in experiments.run. Run it on an idle machine.
"""

import os
import pathlib
import statistics
import tempfile
import time
import types

if __name__ == "__main__" and not os.environ.get("JAX_PLATFORMS", "cpu").startswith(("gpu", "cuda", "tpu")):
    os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
                               f" --xla_force_host_platform_device_count={os.cpu_count()}")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from scaling import data, experiment, families  # noqa: E402
from scaling.data import pictures, source, tokenizers, windows  # noqa: E402
from scaling.experiment import Text  # noqa: E402
from scaling.training.feeds import StreamedFeed  # noqa: E402
from scaling.training.program import Program  # noqa: E402
from scaling.training.step import TRUNK  # noqa: E402

LENGTH, BATCH, STEPS = 256, 32, 256  # tokens of a window, windows of a step, steps of a call
REPEATS = 5


def documents() -> list[str]:
    """64 documents of a MiB of random letters: one block of windows."""
    letters = np.random.default_rng(0).integers(97, 123, (64, 1 << 20), np.uint8)
    return [bytes(row).decode() for row in letters]


def text(directory, storage: str) -> source.TextSource:
    """A source of 64 MiB of random text."""
    found = windows.prepare(pathlib.Path(directory) / storage, "train", LENGTH, tokenizers.Bytes(), documents,
                            progress=False, storage=storage)
    return source.TextSource(storage, "random", tokenizers.Bytes(), LENGTH, BATCH, 0, found, {}, {})


class RandomImages:
    """4,096 random colour images of 32 pixels, as examples."""

    def __len__(self):
        return 4096

    def __getitem__(self, index):
        return {"image": np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)}


def images(directory) -> data.ImageSource:
    table = pictures.prepare_images("random", {"train": RandomImages()}, {}, [], "image", np.asarray, (32, 32, 3),
                                    pathlib.Path(directory) / "images", False)
    return data.ImageSource(pictures.Pictures("random", pathlib.Path(directory) / "images", table), 256, 64, 0, "", 0, 0,
                            True, 2)


def small() -> experiment.Experiment:
    """A Transformer of width 64 and two layers."""
    family = families.find("transformer")(width=64, layers=2, heads=2, length=LENGTH, vocab=256)
    return experiment.Experiment(family=family, data=Text(length=LENGTH, batch=BATCH, tokens=2**40))


def ways(directory) -> dict:
    """{name: (a function that feeds once, its tokens)}."""
    mapped, records, pictured = text(directory, "mapped"), text(directory, "array_record"), images(directory)
    shuffled = 2 * mapped._count // BATCH  # a step of the third epoch
    call = STEPS * BATCH * LENGTH

    forgetful = text(directory, "array_record")

    def forgotten(steps):
        forgetful._train._cache.cache_clear()
        return forgetful.batches(1, shuffled, shuffled + steps)

    arrays = jax.tree.map(jnp.asarray, mapped.arrays())

    @jax.jit
    def sliced(arrays, start):
        def body(index, total):
            return total + mapped.slice(arrays, 1, start + index)["tokens"]
        return jax.lax.fori_loop(0, STEPS, body, jnp.zeros((BATCH, LENGTH + 1), jnp.int32))

    e = small()
    feed = StreamedFeed(e, mapped, Program(e, mapped, 1).mesh, 1)
    states = [types.SimpleNamespace(step=np.full(1, shuffled))]  # all that a feed asks of a state

    def placed():
        found = feed.data(states[-1], [e], STEPS, STEPS)
        states[:] = [types.SimpleNamespace(step=states[-1].step + STEPS)]
        feed.advanced(states[-1])
        return found

    return {
        "resident: sliced by a compiled loop": (lambda: sliced(arrays, shuffled), call),
        "memory-mapped, first epoch": (lambda: mapped.batches(1, 0, STEPS), call),
        "memory-mapped, shuffled": (lambda: mapped.batches(1, shuffled, shuffled + STEPS), call),
        "memory-mapped, shuffled, batch by batch": (
            lambda: [mapped.batch(1, step) for step in range(shuffled, shuffled + STEPS)], call),
        "memory-mapped, shuffled, placed on the devices": (placed, call),
        "array_record, first epoch": (lambda: records.batches(1, 0, STEPS), call),
        "array_record, shuffled, records in memory": (lambda: records.batches(1, shuffled, shuffled + STEPS), call),
        "array_record, shuffled, a record for each window": (lambda: forgotten(8), 8 * BATCH * LENGTH),
        "images, memory-mapped, mirrored and moved": (lambda: pictured.batches(1, 100, 132), 32 * 64 * 3072),
    }


def measured(seconds: float = 1.0) -> dict:
    """{way of feeding: (tokens per second of each repeat, nanoseconds of processor time per token of each)}.

    A repeat takes about `seconds` / `REPEATS`. Repeats of all ways are interleaved.
    """
    with tempfile.TemporaryDirectory() as directory:
        chosen = ways(directory)
        found: dict = {name: ([], []) for name in chosen}
        for repeat in range(-1, REPEATS):  # the first compiles, and reads what is read once
            for name, (feed, tokens) in chosen.items():
                start, used, times = time.perf_counter(), time.process_time(), 0
                while times == 0 or time.perf_counter() - start < seconds / REPEATS:
                    jax.block_until_ready(feed())
                    times += 1
                if repeat >= 0:
                    found[name][0].append(times * tokens / (time.perf_counter() - start))
                    found[name][1].append((time.process_time() - used) * 1e9 / (times * tokens))
    return found


def rates(seconds: float = 1.0) -> dict[str, list[float]]:
    """{way of feeding: tokens per second, of each repeat}; see `measured`."""
    return {name: per_second for name, (per_second, _) in measured(seconds).items()}


def trained(seconds: float = 2.0, repeats: int = 9) -> dict[str, list[float]]:
    """{feed: tokens per second of training `small()` over all devices, of each repeat}, interleaved.

    A call has as many steps as take half a second, as in a sweep, and the host reads the metrics of a call while the
    devices compute the next.
    """
    with tempfile.TemporaryDirectory() as directory:
        found, e = text(directory, "mapped"), small()
        programs = {feed: Program(e.replace({"data.feed": feed}), found, 1) for feed in ("resident", "streamed")}
        states = {feed: program.init([e]) for feed, program in programs.items()}

        def once(feed: str, steps: int, least: float) -> float:
            start, calls, unread = time.perf_counter(), 0, None
            while time.perf_counter() - start < least:
                states[feed], metrics = programs[feed].advance(states[feed], [e], [TRUNK], steps)
                jax.block_until_ready(unread)
                unread, calls = metrics, calls + 1
            jax.block_until_ready(unread)
            return calls * steps / (time.perf_counter() - start)

        for feed in programs:
            once(feed, 4, 0.5)  # compiles
        steps = max(4, int(once("resident", 4, 1.0) / 2))
        out: dict = {feed: [] for feed in programs}
        for _ in range(repeats):
            for feed in programs:
                out[feed].append(once(feed, steps, seconds) * BATCH * LENGTH)
    return out


def main():
    print(f"{'':48} Mtok/s (least to most)      ns of processor time per token")
    for name, (per_second, cpu) in measured().items():
        low, middle, high = (f(per_second) / 1e6 for f in (min, statistics.median, max))
        print(f"{name:48} {middle:9,.1f} ({low:,.1f} to {high:,.1f})".ljust(78) + f"{statistics.median(cpu):6.2f}")
    found = trained()
    ratios = [b / a for a, b in zip(found["resident"], found["streamed"])]
    for feed, per_second in found.items():
        print(f"training, {feed}: {statistics.median(per_second) / 1e3:,.1f} ktok/s "
              f"({min(per_second) / 1e3:,.1f} to {max(per_second) / 1e3:,.1f})")
    print(f"streamed / resident: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()

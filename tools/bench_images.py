"""How fast the VAE and the GAN train on this machine, compared with plain torch, and inside and outside compiled loops.

    python -m tools.bench_images
    python -m tools.bench_images --parts rates --members gan/conv --sizes 1e4 --seconds 1

`rates` prints, for each member of the ladders, the steps per second of the program that sweeps run
(`scaling.training.program.Program`, batches of 64 grey images of 16x16) and the seconds to compile it: first for as many
packed runs as there are devices, then for one run over all devices. Next to them are the rates of the same networks,
losses (exact R1 and R2, by autograd) and AdamW in eager torch (`tools._torch_twins`; parameter counts agree within 1%):
first that many processes with one thread each, all at once, then one process with one thread or all, whichever is faster.
x is our rate over torch's, so more than 1 means that we are faster. torch is not a dependency of the package; without it
only our rates are printed. Images are random and lie in memory on both sides.

`loops` prints the ms per step of the convolutional members with each step called from Python ("outside") and in
`lax.fori_loop` ("inside"). XLA's CPU backend runs lax.conv many times slower inside a compiled loop. Program therefore
keeps members with lax.conv (family.convolution=xla) outside. On a CPU convolutions are products of shifted images by
default and run inside. "*" marks the choice of Program.

On a CPU there is one XLA device per core, as in experiments.run. Run it on an idle machine: figures are the best of three
repeats, and threads that wait for a busy core distort both sides.
"""

import argparse
import concurrent.futures
import importlib.util
import multiprocessing
import time

import jax
import numpy as np
from jax import lax

from scaling import cost, families
from scaling import experiment as experiments
from scaling.devices.layouts import one_cpu_device_per_core
from scaling.experiment import Images
from scaling.training.program import Program
from scaling.training.step import TRUNK

BATCH, IMAGES, REPEATS = 64, 4096, 3
MEMBERS = ("vae/tokens", "vae/conv", "gan/tokens", "gan/conv")
ADAM = {"vae": {}, "gan": {"optim.beta1": 0.0, "optim.beta2": 0.99, "optim.weight_decay": 0.0}}


class Rows:
    """A source of random images that lie on the device; each step takes the next batch of them."""

    def __init__(self, family):
        shape = (IMAGES, family.image_size, family.image_size, family.channels)
        self.images = np.random.default_rng(0).integers(0, family.levels, shape, dtype=np.uint8)

    def arrays(self):
        return {"image": self.images}

    def slice(self, arrays, seed, step):
        return {"image": lax.dynamic_slice_in_dim(arrays["image"], step * BATCH % IMAGES, BATCH)}


def experiment(member, size):
    name, body = member.split("/")
    data = Images(batch=BATCH)
    family = families.find(name).ladder(size, body=body, **data.family_fields())
    e = experiments.Experiment(family=family, data=data)
    return e.replace({"optim.learning_rate": 1e-4, **ADAM[name]})  # small, since random images teach nothing


def timed(steps, seconds, together=lambda: None):
    """(seconds of the first step, best seconds per step), where `steps(n)` takes n steps and waits for them.

    `together` is called before each repeat. It is a barrier where several processes should run at the same time.
    """
    first, each = (_elapsed(steps, 1) for _ in range(2))
    count = max(1, round(seconds / REPEATS / each))
    best = float("inf")
    for _ in range(REPEATS):
        together()
        best = min(best, _elapsed(steps, count) / count)
    return first, best


def _elapsed(steps, count):
    start = time.perf_counter()
    steps(count)
    return time.perf_counter() - start


def program_times(e, runs, seconds, loop=None):
    """(seconds to compile, seconds per step) of packed runs; `loop` overrides the Program's choice to loop inside."""
    program = Program(e, Rows(e.family), runs)
    if loop is not None:  # the first call traces the step and reads these
        program.loop, program.compiled_steps = loop, program.steps_per_call if loop else 1
    pack = [e.replace({"seed": seed}) for seed in range(runs)]
    state = jax.block_until_ready(program.init(pack))

    def steps(count):
        nonlocal state
        state, metrics = program.advance(state, pack, [TRUNK] * runs, count)
        jax.block_until_ready((state, metrics))

    first, each = timed(steps, seconds)
    return first - each, each


class Twins:
    """Processes that train torch twins. They start once; each checks its parameter count against the family's."""

    def __init__(self, processes):
        context = multiprocessing.get_context("spawn")  # a forked JAX would deadlock
        barrier = context.Barrier(processes, timeout=600)  # seconds; without a limit the others would wait for a dead twin
        self.processes = processes
        self.pool = concurrent.futures.ProcessPoolExecutor(processes, context, _share, (barrier,))

    def times(self, e, packed, seconds):
        """Seconds per step: of the slowest of all processes if `packed`, else of one process with one thread or all."""
        def start(threads, together=False):
            parameters = cost.param_count(e.family)["total"]
            return self.pool.submit(_train_twin, e.family, e.optim, parameters, seconds, threads, together)

        if packed:
            return max(task.result() for task in [start(1, together=True) for _ in range(self.processes)])
        return min(start(threads).result() for threads in {1, self.processes})


_shared: dict = {}  # of a process of twins: its barrier


def _share(barrier):
    _shared["barrier"] = barrier


def _train_twin(family, optim, parameters, seconds, threads, together):
    import torch

    from tools import _torch_twins

    torch.set_num_threads(threads)
    step, count = _torch_twins.trainer(family, optim)
    assert abs(count / parameters - 1) < 0.01, f"{count:,} parameters, not {parameters:,}: {family}"
    images, at = torch.from_numpy(Rows(family).images), 0

    def steps(count):
        nonlocal at
        for _ in range(count):
            step(images[at:at + BATCH])
            at = (at + BATCH) % IMAGES

    return timed(steps, seconds, _shared["barrier"].wait if together else lambda: None)[1]


def rates(members, seconds):
    runs = jax.device_count()
    twins = torch_twins(runs)
    print(f"steps per second of all runs together, and seconds to compile: {runs} packed runs, then one\n"
          f"{'member':>22} {'parameters':>11} | {'packed':>7} {'compile':>7} {'torch':>7} {'x':>5}"
          f" | {'single':>7} {'compile':>7} {'torch':>7} {'x':>5}")
    for label, e in members:
        print(f"{label:>22} {cost.param_count(e.family)['total']:>11,}", end="", flush=True)
        for count in (runs, 1):
            compiling, each = program_times(e, count, seconds)
            print(f" | {count / each:7.1f} {compiling:6.1f}s", end="", flush=True)
            if twins is None:
                print(f" {'-':>7} {'-':>5}", end="", flush=True)
                continue
            theirs = twins.times(e, count > 1, seconds)
            print(f" {count / theirs:7.1f} {theirs / each:5.2f}", end="", flush=True)
        print()
    if twins is not None:
        twins.pool.shutdown()


def torch_twins(runs):
    """`Twins`; None, with a printed sentence, where torch cannot be compared with."""
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed, so its rates are left out; pip install torch adds them")
    elif jax.default_backend() != "cpu":
        print(f"torch is compared on CPUs only, and JAX is on {jax.default_backend()}; set JAX_PLATFORMS=cpu")
    else:
        return Twins(runs)


def loops(members, seconds):
    print(f"ms per step of one run; a star marks the choice of Program\n"
          f"{'member':>22} {'lax.conv':>9} {'outside':>9} {'inside':>9} {'inside/outside':>15}")
    for label, e in members:
        if e.family.body != "conv":
            continue
        stays = Program(e, None, 1).loop
        outside, inside = (1e3 * program_times(e, 1, seconds, loop)[1] for loop in (False, True))
        has, marks = "yes" if cost.convolves(e.family) else "no", " *" if stays else "* "
        print(f"{label:>22} {has:>9} {outside:8.1f}{marks[0]} {inside:8.1f}{marks[1]} "
              f"{inside / outside:15.2f}", flush=True)


def main():
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("bench_images", description=__doc__, formatter_class=as_written)
    parser.add_argument("--parts", nargs="+", default=["rates", "loops"], choices=("rates", "loops"))
    parser.add_argument("--members", nargs="+", default=MEMBERS, choices=MEMBERS, metavar="MEMBER",
                        help=f"some of {', '.join(MEMBERS)}; all by default")
    parser.add_argument("--sizes", nargs="+", type=float, default=[1e4, 1e5, 5e5], metavar="N",
                        help="approximate numbers of parameters, as the ladders take them; 1e4 1e5 5e5 by default")
    parser.add_argument("--seconds", type=float, default=6.0,
                        help="seconds of stepping per figure, without compilation and first steps; 6 by default")
    flags = parser.parse_args()
    one_cpu_device_per_core()  # before JAX starts
    jax.config.update("jax_enable_compilation_cache", False)  # or a second run would report no compile time
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, JAX {jax.__version__}")
    members = [(f"{member} {size:.0e}", experiment(member, size))
               for member in flags.members for size in flags.sizes]
    for part in flags.parts:
        {"rates": rates, "loops": loops}[part](members, flags.seconds)


if __name__ == "__main__":
    main()

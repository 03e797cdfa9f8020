"""How fast this package is on an accelerator, in one command of less than ten minutes.

    python -m tools.bench_accelerator --output=h200.json

The pieces, in order:

  products      the rate of bfloat16 matrix products
  models        the Transformer of 100M and of 1B parameters (bfloat16, sequences of 2,048, AdamW, the step of the train
                loop): tokens/s, and the share of the measured and of the published rate
  packed        packs of 1, 4, 16 and 64 runs of 100 thousand parameters: tokens/s of all runs, and the ratio to one run
  attention     causal attention by every kernel of the platform: ms forward and with gradients, temporaries
  loss          the cross-entropy over 131,072 words, of whole logits and of blocks of them: ms, temporaries
  remat         the smaller model with every rematerialisation by name: tokens/s and peak memory
  convolutions  convolutions of 16 runs, forward and backward, under vmap, in a loop over runs, as groups of channels, and
                as matrix products
  tests         tests that need no particular device (--tests)
  more          other settings, in the time that is left: rematerialisation and microbatches of the larger model, float32,
                a loss in blocks of the vocabulary, bfloat16 packs, packs of a convolutional GAN

Every result is printed and written to the file at once. Each piece runs in its own process: if one runs out of memory,
crashes or takes too long, the command says so and goes on with the next. --budget_seconds bounds the whole command.
--small measures tiny sizes on any device, to check that the command works.

Batches are random and drawn on the device; no data set is read. The measurements need jax, flax, optax and ml_collections
only; the tests need all dependencies (`pip install -e '.[test]'`).
"""

import argparse
import functools
import json
import multiprocessing
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")  # JAX takes 0.75 of a GPU's memory otherwise

try:
    from tools import _accelerator, _kernels  # noqa: E402
except ModuleNotFoundError as error:
    sys.exit(f"{error}; pip install absl-py flax ml_collections optax, beside jax for this accelerator")

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOAL = {"1B": 0.5}  # {model: share of the measured rate}
PIECES = ("products", "models", "packed", "attention", "loss", "remat", "convolutions", "tests", "more")
# Folders and files of tests/ that run on any device, except for the tests that need eight of them.
TESTS = ("test_axes", "test_cost", "nn", "families", "evaluate")
EIGHT = "mesh or devices or sharded or wherever"


class Piece(NamedTuple):
    name: str
    of: str  # one of PIECES
    share: float  # its part of the time left, relative to the shares of later pieces; 0 comes after all others
    run: Callable
    instead: str = ""  # runs only if the piece of this name failed


def pieces(sizes, tests, measured) -> list[Piece]:
    """All pieces in order. `measured()` is the rate of products once it is known."""
    def model(entry, **how):
        return lambda note, left: _accelerator.model(*entry, how, sizes, measured(), note, left)

    def packed(member, **how):
        return lambda note, left: _accelerator.packed(member, how, sizes, note, left)

    found = [Piece("products", "products", 1, lambda note, left: _accelerator.products(sizes, note, left))]
    for entry in sizes.models:
        found += [
            Piece(entry[0], "models", 3, model(entry)),
            Piece(f"{entry[0]} again", "models", 2, model(entry, remat="full"), entry[0]),
            Piece(f"{entry[0]} without cuDNN", "models", 2, model(entry, remat="full", attention="xla"),
                  f"{entry[0]} again")]
    found += [Piece("packed", "packed", 3, packed("transformer")),
              Piece("attention", "attention", 1, lambda note, left: _kernels.attentions(sizes, note, left)),
              Piece("loss", "loss", 1, lambda note, left: _kernels.losses(sizes, note, left)),
              *(Piece(f"remat {name}", "remat", 1, model(sizes.models[0], remat=name)) for name in sizes.remat),
              Piece("convolutions", "convolutions", 3, lambda note, left: _accelerator.convolutions(sizes, note, left))]
    if tests:
        found.append(Piece("tests", "tests", 4, functools.partial(run_tests, tests)))
    largest = sizes.models[-1]
    return found + [
        Piece(f"{largest[0]} with remat", "more", 0, model(largest, remat="full")),
        Piece(f"{largest[0]} in microbatches", "more", 0, model(largest, microbatch=max(1, largest[2] // 8))),
        Piece(f"{sizes.models[0][0]} in float32", "more", 0, model(sizes.models[0], dtype="float32")),
        Piece(f"{largest[0]} with blocks of the vocabulary", "more", 0, model(largest, cross_entropy="blocks")),
        Piece("packed in bfloat16", "more", 0, packed("transformer", dtype="bfloat16")),
        Piece("packed GANs", "more", 0, packed("gan", body="conv"))]


def run_tests(names, note, left):
    """Runs tests on the first device of this machine, with float32 products in full precision."""
    platform = subprocess.run([sys.executable, "-c", "import jax; print(jax.default_backend())"], text=True, check=True,
                              capture_output=True).stdout.strip()
    workers = min(8, os.cpu_count() or 1) if platform == "gpu" else 0  # several processes can share a GPU only
    environment = os.environ | {
        "JAX_PLATFORMS": {"gpu": "cuda,cpu", "tpu": "tpu,cpu"}.get(platform, platform),
        "JAX_DEFAULT_MATMUL_PRECISION": "highest", "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, "-m", "pytest", "-n", str(workers), "-p", "no:cacheprovider", "--no-header",
               "--tb=line", "-k", f"not ({EIGHT})", *(str(_tests(name)) for name in names)]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=left())
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode(errors="replace")
        note(f"tests: not finished after {late.timeout:.0f} s", failed="time", said=said[-2000:])
        return
    lines = done.stdout.strip().splitlines()
    wrong = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    note("\n".join([f"tests on {platform}: {lines[-1] if lines else 'nothing'}", *wrong]), status=done.returncode,
         said="\n".join(lines[-60:]), **({"failed": "tests"} if done.returncode else {}))


def _tests(name) -> pathlib.Path:
    """The folder or file of tests/ called `name`."""
    folder = ROOT / "tests" / name
    return folder if folder.is_dir() else folder.with_suffix(".py")


def child(piece: Piece, path: pathlib.Path, until: float):
    """Runs a piece in this process, which is new and has the device to itself."""
    os.setpgrp()  # so that whatever it starts ends with it

    def note(text, **values):
        print(text, flush=True)
        with path.open("a") as file:
            file.write(json.dumps({"piece": piece.name, "text": text, **values}, default=float) + "\n")

    try:
        if piece.of == "products":
            found = _accelerator.device()
            note(f"{found['count']} x {found['kind']} ({found['platform']}), jax {found['jax']}", device=found)
        piece.run(note, lambda: until - time.monotonic())
    except Exception as error:  # any error is noted, and the next piece is tried
        memory = "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
        short = " ".join(str(error).split())[:300]
        note(f"{piece.name}: " + ("out of memory: " if memory else f"{type(error).__name__}: ") + short,
             failed="memory" if memory else type(error).__name__)
        os._exit(1)
    os._exit(0)  # does not wait for the device


class Bench:
    """Runs pieces and keeps their results in a file."""

    def __init__(self, output, budget, lines):
        self.output, self.lines, self.end = output, lines, time.monotonic() + budget
        self.started = time.monotonic()
        self.found: list[dict] = []
        self.head = {"command": "python -m tools.bench_accelerator " + shlex.join(sys.argv[1:]), "budget_seconds": budget}

    def read(self):
        self.found = [json.loads(line) for line in self.lines.read_text().splitlines()] if self.lines.exists() else []
        device = next((entry["device"] for entry in self.found if "device" in entry), None)
        content = {**self.head, "seconds": time.monotonic() - self.started, "device": device, "measurements": self.found}
        if self.output:
            new = self.output.with_name(self.output.name + ".new")
            new.write_text(json.dumps(content, indent=1))
            new.replace(self.output)

    def say(self, piece, text, **values):
        print(text, flush=True)
        with self.lines.open("a") as file:
            file.write(json.dumps({"piece": piece, "text": text, **values}) + "\n")
        self.read()

    def measured(self):
        return next((entry["measured"] for entry in self.found if "measured" in entry), None)

    def failed(self, name):
        return any(entry["piece"] == name and "failed" in entry for entry in self.found)

    def run(self, all_pieces):
        todo = [piece for piece in all_pieces if piece.share] + [piece for piece in all_pieces if not piece.share]
        for index, piece in enumerate(todo):
            if piece.instead and not self.failed(piece.instead):
                continue
            left = self.end - time.monotonic()
            if left < 2 or (not piece.share and left < 45):
                if piece.share:
                    self.say(piece.name, f"{piece.name}: skipped, the time is up", failed="time")
                continue
            others = sum(other.share for other in todo[index + 1:] if not other.instead)
            self.one(piece, left * (piece.share / (piece.share + others) if piece.share else 1))

    def one(self, piece, allowed):
        before = len(self.found)
        process = multiprocessing.get_context("fork").Process(
            target=child, args=(piece, self.lines, time.monotonic() + 0.9 * allowed))
        process.start()
        try:
            process.join(allowed)
            late = process.is_alive()
        finally:
            _end(process)
        self.read()
        if late:
            self.say(piece.name, f"{piece.name}: stopped after {allowed:.0f} s", failed="time")
        elif process.exitcode and not any("failed" in entry for entry in self.found[before:]):
            self.say(piece.name, f"{piece.name}: died with status {process.exitcode}", failed="died")

    def goals(self):
        """Compares the best setting of each model with its goal."""
        for name, goal in GOAL.items():
            shares = [entry["mfu"]["measured"] for entry in self.found
                      if entry.get("model") == name and "measured" in entry.get("mfu", {})]
            if shares:
                self.say("goals", f"{name}: {max(shares):.1%} of the measured rate, where {goal:.0%} is the goal: "
                         + ("reached" if max(shares) >= goal else "not reached"), goal=goal, best=max(shares))


def _end(process):
    if process.is_alive():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it did not lead a process group yet
            process.kill()
    process.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--budget_seconds", type=float, default=540, help="limit for the whole command (%(default)s)")
    parser.add_argument("--pieces", default=",".join(PIECES), help="%(default)s")
    parser.add_argument("--tests", default=",".join(TESTS), help="folders and files of tests/ to run: %(default)s")
    parser.add_argument("--small", action="store_true", help="measure tiny sizes")
    args = parser.parse_args()
    wanted, tests = args.pieces.split(","), [name for name in args.tests.split(",") if name]
    if unknown := [name for name in wanted if name not in PIECES]:
        parser.error(f"--pieces has no {unknown[0]!r}; it takes {', '.join(PIECES)}")
    if missing := [name for name in tests if not _tests(name).exists()]:
        parser.error(f"--tests: there is neither a folder tests/{missing[0]} nor a file tests/{missing[0]}.py")
    lines = (args.output or pathlib.Path("bench_accelerator.json")).with_suffix(".lines")
    lines.unlink(missing_ok=True)
    bench = Bench(args.output, args.budget_seconds, lines)
    sizes = _accelerator.SMALL if args.small else _accelerator.Sizes()
    try:
        bench.run([piece for piece in pieces(sizes, tests, bench.measured) if piece.of in wanted])
        bench.goals()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    finally:
        bench.read()
        lines.unlink(missing_ok=True)
    print(f"{time.monotonic() - bench.started:.0f} s" + (f"; written: {args.output}" if args.output else ""))


if __name__ == "__main__":
    main()

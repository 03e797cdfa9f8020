"""The time from a command to the first finished training step of a small study.

    python -m tools._startup            # once with nothing compiled or counted before, once with everything

The study has one Transformer of width 64 with 2 layers and 2 heads, trained for four steps of 32 x 256 bytes. Its data are
prepared beforehand and are not part of the time.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

CONFIG = '''
from scaling import experiment


def get_config():
    config = experiment.config("transformer")
    config.title, config.metric = "Start-up", "bits_per_byte"
    config.family.width, config.family.layers, config.family.heads = 64, 2, 2
    config.data.batch, config.data.length, config.data.tokens = 32, 256, 4 * 32 * 256
    config.data.evaluation_tokens = 32 * 256
    config.optim.warmup = 1
    return config


def sweep(config):
    return [experiment.from_config(config)]
'''
CACHES = ("JAX_COMPILATION_CACHE_DIR", "SCALING_COMPILATION_CACHE", "SCALING_REMEMBERED")


def startup(cold: bool, folder: str | os.PathLike | None = None) -> dict[str, float]:
    """Seconds from the command until each point of a study's start, in a new process.

    imported: `experiments.run` is imported. planned: the plan is printed. called: the step is about to be traced.
    first_step: the first step has finished. end: the process has ended. `cpu_first_step` and `cpu_end` are its CPU-seconds.
    cold: no program was compiled and nothing was counted before; else a first process, which is not timed, has done both.
    folder: where to keep the caches of several calls; by default a temporary one.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="startup-") as made:
            return startup(cold, made)
    folder = pathlib.Path(folder)
    if not cold:
        _run(folder / "warm")
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        return _run(pathlib.Path(fresh) if cold else folder / "warm")


def _run(caches: pathlib.Path) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if name not in CACHES}
    environment["XDG_CACHE_HOME"] = str(caches)
    with tempfile.TemporaryDirectory(prefix="startup-") as made:
        config = pathlib.Path(made, "config.py")
        config.write_text(CONFIG)
        points = pathlib.Path(made, "points.json")
        # The clock starts before the process does.
        command = [sys.executable, "-m", "tools._startup", str(points), repr(time.time()), f"--config={config}",
                   f"--workdir={made}/workdir", "--log_every=1"]
        start = time.time()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the study ended with exit status {done.returncode}: {done.stderr.strip()[-2000:]}")
        return json.loads(points.read_text()) | {"end": time.time() - start}


def _child(points: str, start: float, arguments: list[str]) -> None:
    """Runs the command with these arguments in this process, and writes when it passed which point."""
    found: dict[str, float] = {}
    sys.argv = ["experiments/run.py", *arguments]
    from experiments import run
    found["imported"] = time.time() - start

    import jax

    from scaling.study import study
    from scaling.training import program
    advance, describe = program.Program.advance, study.Study.describe

    def described(self):
        text = describe(self)
        found["planned"] = time.time() - start
        return text

    def advanced(self, *args, **named):
        found.setdefault("called", time.time() - start)
        out = advance(self, *args, **named)
        if "first_step" not in found:
            jax.block_until_ready(out)
            found["first_step"], found["cpu_first_step"] = time.time() - start, time.process_time()
        return out

    program.Program.advance, study.Study.describe = advanced, described
    try:
        run.start()
    finally:
        pathlib.Path(points).write_text(json.dumps(found | {"cpu_end": time.process_time()}))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _child(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
    else:
        with tempfile.TemporaryDirectory(prefix="startup-") as kept:
            for label, is_cold in (("cold", True), ("warm", False)):
                print(label, *(f"{name} {value:.2f} s" for name, value in startup(is_cold, kept).items()), sep="  ")

"""One compile for TPUs that are not here, in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile

from scaling import experiment as experiments
from scaling.devices import chips
from scaling.pods.compiler import ENVIRONMENT

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class PodError(RuntimeError):
    """The compiler could not be started, or died."""


def attempt(experiment, topology: str, slices: int = 1, mesh: str = "", runs: int = 1) -> dict:
    """The report on `runs` packed runs of an experiment on one topology; {"error": reason} if a size does not divide."""
    chips.parse_topology(topology, slices)
    experiment = streamed(experiment)
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "result.json")
        request = {"experiment": experiments.to_dict(experiment), "topology": topology, "slices": slices, "mesh": mesh,
                   "runs": runs, "output": output}
        kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
        path = os.pathsep.join(filter(None, [ROOT, kept.get("PYTHONPATH", "")]))
        done = subprocess.run([sys.executable, "-m", "scaling.pods.compiler"], input=json.dumps(request), text=True,
                              capture_output=True, env={**kept, **ENVIRONMENT, "PYTHONPATH": path}, check=False)
        if done.returncode or not os.path.exists(output):
            raise PodError(_failure(done))
        with open(output, encoding="utf-8") as file:
            return json.load(file)


def streamed(experiment):
    """The experiment with batches that are streamed from the host, as on many chips. It is then compiled without data."""
    return experiment.replace({"data.feed": "streamed"})


def _failure(done) -> str:
    if "libtpu" in done.stderr and ("No module" in done.stderr or "not found" in done.stderr.lower()):
        return "compiling for TPUs needs libtpu; write pip install -e '.[pods]'"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return f"the compiler ended with status {done.returncode}: " + (lines[-1] if lines else "no message")

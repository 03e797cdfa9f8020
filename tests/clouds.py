"""Fake clouds: scripts on PATH that record their arguments and do what gcloud, xpk and sbatch would do.

They run ssh on every worker, keep a JobSet's restart policy, and run a batch script. The command that they run is a real
one, which fails with the statuses that a test gives it.
"""

import json
import pathlib
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
PLACE = ["--zone=us-west4-a", "--project=my-project"]
TPU = ["tpu_vm", "--accelerator=v5e-16", *PLACE]
GKE = ["gke", "--accelerator=v5e-16", "--cluster=tpus", *PLACE]
SKY = ["skypilot", "--accelerator=H100:8", "--nodes=2"]
SLURM = ["slurm", "--nodes=2", "--gpus=4"]
RUN = ["python", "-m", "experiments.run", "--config=configs/quickstart.py", "--workdir=gs://mine/sweep"]
HOSTILE = ["two words", "it's", '"both" \'kinds\'', "$(touch pwned)", "`touch pwned`", "$HOME", "$$(HOME)",
           "a\nEND_OF_SCRIPT\nb", "tab\there", "back\\slash\\x41", "", "*", "; touch pwned #", "--",
           "é\x85\u2028", "&& touch pwned", "{braces}", "!history", "~", "-n", "\x1b[31m\x7f1"]
# Appends its arguments as one JSON line, then exits with the status that is due at this run.
COMMAND = """
import json, os, pathlib, sys
here = pathlib.Path(sys.argv[1])
log = here / f"ran.{os.environ.get('WORKER', '0')}"
runs = len(log.read_text().splitlines()) if log.exists() else 0
with log.open("a") as f:
    f.write(json.dumps([sys.argv[2:], os.environ.get("SCALING_DATA_DIR")]) + "\\n")
due = json.loads((here / "statuses").read_text()).get(os.environ.get("WORKER", "0"), [])
sys.exit(due[runs] if runs < len(due) else 0)
"""


class Cloud:
    """A directory of fake executables, which is the whole PATH of the launchers."""

    def __init__(self, path):
        self.path, self.bin = path, path / "bin"
        self.bin.mkdir()
        for tool in ["bash", "cat", "env", "flock", "git", "hostname", "mkdir", "seq", "setsid", "tail", "tee", "touch"]:
            (self.bin / tool).symlink_to(shutil.which(tool))
        (path / "command.py").write_text(COMMAND)
        self.due({})

    def due(self, statuses):
        """Sets the exit statuses of the command: {worker: [first run, second run, ...]}, then 0."""
        (self.path / "statuses").write_text(json.dumps(statuses))

    def fake(self, name, body):
        """Makes an executable that appends its arguments to the file calls and then runs the Python of `body`."""
        file = self.bin / name
        file.write_text(f"#!{sys.executable} -S\nimport json, os, pathlib, subprocess, sys\n"
                        f"here, argv = pathlib.Path({str(self.path)!r}), sys.argv[1:]\n"
                        f"with (here / 'calls').open('a') as f:\n"
                        f"    f.write(json.dumps([{name!r}, *argv]) + '\\n')\n{body}")
        file.chmod(0o755)

    def command(self, *words):
        """The command to launch; it records its arguments."""
        return [sys.executable, "-S", str(self.path / "command.py"), str(self.path), *words]

    def launch(self, *argv, **variables):
        """Runs a launcher with these arguments and environment variables."""
        environment = {"PATH": str(self.bin), "PYTHONPATH": str(ROOT), "HOME": str(self.path), **variables}
        return subprocess.run([sys.executable, "-m", f"tools.launch.{argv[0]}", *argv[1:]], env=environment,
                              cwd=self.path, capture_output=True, text=True, timeout=60)

    def calls(self, *, of=""):
        """The calls of fake executables so far, with their arguments; only those that contain the word `of`."""
        lines = (self.path / "calls").read_text().splitlines() if (self.path / "calls").exists() else []
        return [call for call in map(json.loads, lines) if not of or of in call]

    def ran(self, worker=0):
        """What each run of the command on a worker recorded."""
        return [json.loads(line) for line in (self.path / f"ran.{worker}").read_text().splitlines()]


def printed(cloud, *argv, command=RUN, **variables):
    """What --dry_run prints; it must be a valid script of bash."""
    done = cloud.launch(*argv, "--dry_run", "--", *command, **variables)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, capture_output=True).stderr == ""
    return done.stdout


def commands(text):
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]

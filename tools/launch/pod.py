"""The commands of gcloud for a TPU VM slice, or for several joined slices: create, describe, ssh, scp, delete."""

import subprocess
import time
from typing import NamedTuple

from tools.launch import accelerators, common, shell

UP = ("ACTIVE", "READY")
LEAVING = ("SUSPENDING", "DELETING", "STOPPING")  # nothing can be done with the slice until it is gone
GONE = ("", "FAILED", "SUSPENDED", "PREEMPTED", "TERMINATED", "STOPPED")


class Failed(Exception):
    """gcloud failed. Its arguments are an exit status and a sentence for the user."""


class Pod(NamedTuple):
    """One slice, or several joined slices, and the gcloud commands that act on them."""

    name: str
    part: accelerators.Slice
    slices: int
    runtime: str
    queued: bool
    options: tuple[str, ...]  # of the create command: capacity, and options of the user
    place: tuple[str, ...]  # --zone and --project
    flex: bool = False  # whether the options ask for flex-start
    poll: float = 30.0  # seconds between two checks of the state

    def _gcloud(self, group: str, verb: str, *rest: str, track: tuple[str, ...] = ()) -> list[str]:
        return ["gcloud", *track, "compute", "tpus", group, verb, *rest, *self.place]

    @property
    def _group(self) -> str:
        return "queued-resources" if self.queued else "tpu-vm"

    def create(self) -> list[str]:
        shape, track = [f"--accelerator-type={self.part.accelerator_type}"], ()
        if self.part.topology:  # the --type of released gcloud commands stops at v4
            shape = [f"--type={self.part.of.cloud}", f"--topology={self.part.topology}"]
        if self.part.topology or self.flex:  # --provisioning-model is no option of the released command
            track = ("alpha",)
        if not self.queued:
            nodes = [f"--version={self.runtime}"]
        elif self.slices == 1:
            nodes = [f"--runtime-version={self.runtime}", f"--node-id={self.name}"]
        else:
            nodes = [f"--runtime-version={self.runtime}", f"--node-count={self.slices}",
                     f"--node-prefix={self.name}"]
        return self._gcloud(self._group, "create", self.name, *shape, *nodes, *self.options, track=track)

    def describe(self) -> list[str]:
        field = "state.state" if self.queued else "state"
        return self._gcloud(self._group, "describe", self.name, f"--format=value({field})")

    def describe_nodes(self) -> list[list[str]]:
        """Commands that ask each node. A queued resource may stay ACTIVE for a while after its nodes were preempted."""
        nodes = [self.name] if self.slices == 1 else [f"{self.name}-{i}" for i in range(self.slices)]
        return [self._gcloud("tpu-vm", "describe", node, "--format=value(state)") for node in nodes]

    def delete(self) -> list[str]:
        force = ["--force"] if self.queued else []
        return self._gcloud(self._group, "delete", self.name, *force, "--quiet")

    def _reach(self) -> tuple[str, list[str]]:
        """The command group and the options that reach all workers at once.

        By default the commands of queued resources reach workers in batches of 64, and the first batch of a run would wait
        for the others for ever.
        """
        if self.slices == 1:
            return "tpu-vm", ["--worker=all"]
        return "queued-resources", ["--node=all", "--worker=all", "--batch-size=all"]

    def on_all_workers(self, script: str) -> list[str]:
        group, everyone = self._reach()
        return self._gcloud(group, "ssh", self.name, *everyone, f"--command={shell.bash(script)}")

    def copy_to_all_workers(self, path: str, to: str) -> list[str]:
        group, everyone = self._reach()
        return self._gcloud(group, "scp", path, f"{self.name}:{to}", *everyone)

    def state(self) -> str:
        """The state in gcloud's words: that of the first node that is not up, or of the whole. Empty: no such slice."""
        state = _answer(self.describe())
        if state in UP and self.queued:
            state = next((s for s in map(_answer, self.describe_nodes()) if s not in UP), state)
        return state

    def bring_up(self) -> bool:
        """Waits until the slice is up and creates it if necessary; True if it was created now."""
        made = False
        while (state := self.state()) in LEAVING:
            time.sleep(self.poll)
        if state in GONE:
            if state:
                common.run(self.delete())
            if status := common.run(self.create()):
                raise Failed(status, f"the slice {self.name} could not be created; gcloud says why above")
            state, made = self.state(), True
        while state not in UP:
            if state in GONE + LEAVING:
                raise Failed(1, f"the slice {self.name} is {state or 'missing'}; inspect it with "
                                f"{shell.join(self._gcloud(self._group, 'describe', self.name))}")
            time.sleep(self.poll)
            state = self.state()
        return made


def _answer(argv: list[str]) -> str:
    """The last part of the path that a gcloud command prints; empty where it fails."""
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    return found.stdout.strip().rpartition("/")[2] if found.returncode == 0 else ""

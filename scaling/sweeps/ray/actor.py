"""The actors that run on the nodes. Each owns devices and trains one pack at a time."""

import os
import signal
import socket
import threading
import warnings

import jax
import ray

from scaling.devices import exits
from scaling.devices.compilation import keep_compiled
from scaling.devices.layouts import one_cpu_device_per_core
from scaling.sweeps import runner as runners
from scaling.sweeps.plan import Pack
from scaling.sweeps.ray.errors import ClusterError


class ProgressReport:
    """Stands in for a progress bar: keeps FLOPs, text and lines until the driver fetches them."""

    def __init__(self):
        self.lock, self.flops, self.text, self.lines = threading.Lock(), 0.0, None, []

    def restart(self):
        """Counts FLOPs from zero again, for the next pack."""
        with self.lock:
            self.flops = 0.0

    def update(self, amount=0, text=None):
        with self.lock:
            self.flops += amount
            self.text = text or self.text

    def print(self, message):
        with self.lock:
            self.lines.append(str(message))

    def take(self):
        """(FLOPs of this pack so far, the latest text, lines since the last call)."""
        with self.lock:
            lines, self.lines = self.lines, []
            return self.flops, self.text, lines


class Trainer:
    """The actor. `train` runs in one of its threads, and `report` answers from another."""

    def __init__(self, device: str, devices: int, workdir, options: runners.TrainingOptions):
        exits.listen_for_signals()  # Ray runs only the constructor in the main thread, which signal handlers need
        self.device, self.devices = device, devices
        self.runner = runners.Runner(workdir, options)
        self.progress, self.stopping = ProgressReport(), False
        if device == "cpu":
            kept = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
            os.environ["XLA_FLAGS"] = " ".join([*kept, f"--xla_force_host_platform_device_count={devices}"])
            one_cpu_device_per_core()
            jax.config.update("jax_platforms", "cpu")
        keep_compiled()

    def start(self) -> str:
        """The name of the node. Raises ClusterError when JAX does not see the devices that Ray assigned."""
        warnings.showwarning = lambda message, *rest, **named: self.progress.print(f"{socket.gethostname()}: {message}")
        seen, platform = jax.local_device_count(), jax.default_backend()
        if platform != self.device or seen < self.devices:
            raise ClusterError(f"JAX on {socket.gethostname()} sees {seen} device(s) of {platform}, but its actor owns "
                               f"{self.devices} of {self.device}: pip install 'scaling[{self.device}]' there")
        return ray.get_runtime_context().get_node_id()

    def train(self, pack: Pack):
        """(True, report) once the pack is trained; (False, report) when another process has claimed it."""
        self.progress.restart()
        return self.runner.train_pack(pack, self.progress), self.progress.take()

    def report(self, stop: bool):
        """The progress since the last call. With `stop`, the actor saves and ends."""
        if stop and not self.stopping:
            self.stopping = True
            os.kill(os.getpid(), signal.SIGTERM)  # as schedulers do: save, then end
        return self.progress.take()

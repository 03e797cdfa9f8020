"""What runs on the nodes: an actor owns devices and trains one pack at a time."""

import os
import signal
import socket
import threading
import warnings

import jax

import ray
from scaling.devices import exits
from scaling.devices.layouts import one_cpu_device_per_core
from scaling.sweeps import runner as runners
from scaling.sweeps.plan import Pack
from scaling.sweeps.ray.errors import ClusterError


class Report:
    """What a Runner takes for a progress bar: keeps FLOPs, text and lines until they are fetched."""

    def __init__(self):
        self.lock, self.flops, self.text, self.lines = threading.Lock(), 0.0, None, []

    def update(self, flops=0, text=None):
        with self.lock:
            self.flops += flops
            self.text = text or self.text

    def print(self, line):
        with self.lock:
            self.lines.append(str(line))

    def take(self):
        """(FLOPs of this pack so far, text, lines since the last call)."""
        with self.lock:
            lines, self.lines = self.lines, []
            return self.flops, self.text, lines


class Trainer:
    """The actor. `train` runs in one of its threads, `report` answers from another."""

    def __init__(self, device: str, devices: int, workdir, options: runners.TrainingOptions):
        exits.listen()  # here, because Ray runs only the constructor in the main thread
        self.device, self.devices, self.workdir, self.options = device, devices, workdir, options
        self.progress, self.stopping = Report(), False
        if device == "cpu":
            kept = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
            os.environ["XLA_FLAGS"] = " ".join([*kept, f"--xla_force_host_platform_device_count={devices}"])
            one_cpu_device_per_core()
            jax.config.update("jax_platforms", "cpu")

    def start(self) -> str:
        """The node. Raises ClusterError when its JAX does not see the devices that Ray gave."""
        warnings.showwarning = lambda message, *rest, **named: self.progress.print(f"{socket.gethostname()}: {message}")
        seen, platform = jax.local_device_count(), jax.default_backend()
        if platform != self.device or seen < self.devices:
            raise ClusterError(f"JAX on {socket.gethostname()} sees {seen} device(s) of {platform} where an actor owns "
                               f"{self.devices} of {self.device}: pip install 'scaling[{self.device}]' there")
        self.runner = runners.Runner(self.workdir, self.options, self.progress)
        return ray.get_runtime_context().get_node_id()

    def train(self, pack: Pack):
        """(whether the pack is trained, report); not, when another process has claimed it."""
        self.progress.flops = 0.0
        return self.runner.train_pack(pack), self.progress.take()

    def report(self, stop: bool):
        if stop and not self.stopping:
            self.stopping = True
            os.kill(os.getpid(), signal.SIGTERM)  # the way that others ask, too: save, then end
        return self.progress.take()

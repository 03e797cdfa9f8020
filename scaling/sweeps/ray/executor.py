"""Sweeps on a Ray cluster: actors that own devices train the packs of a plan. Ray places the actors.

    executor = Executor(RayOptions(address="auto"), mesh="")
    executor(runner, plan)     # every run of the plan has a record when this returns

For every pack that waits, Ray is asked for an actor that owns as many devices as the pack's mesh needs, on one node.
Those that Ray has room for train one pack after another. The workdir is shared: claims and records make each run end
exactly once, whatever dies, and a pack goes on from the last checkpoint of whoever had it before.
"""

import contextlib
import dataclasses
import math
import os
import socket

import ray
from scaling.devices.layouts import parse_mesh
from scaling.fields import ConfigError
from scaling.sweeps import runner as runners
from scaling.sweeps.plan import Pack, Plan
from scaling.sweeps.ray import actor as actors
from scaling.sweeps.ray import driver
from scaling.sweeps.ray.errors import ClusterError, last_line
from scaling.sweeps.ray.queue import Queue

__all__ = ["ClusterError", "Executor", "RayOptions", "Queue", "needs"]
DEVICES = ("cpu", "gpu", "tpu")
PASSED = ("JAX_COMPILATION_CACHE_DIR", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64", "LIBTPU_INIT_ARGS",
          "WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT")  # and what begins with SCALING_
CONNECT_SECONDS = 10.0
TPU_COUNTS = (1, 2, 4, 8)  # parts of a host that Ray hands out


@dataclasses.dataclass(frozen=True)
class RayOptions:
    address: str = "auto"  # "auto": a running cluster, else a local one; "local"; or host:port
    device: str = ""  # what actors own; "": the fastest kind that the cluster has
    devices: int = 0  # how many of them; 0: what the mesh of the pack needs
    cpus: int = 1  # cores beside a GPU or TPU, to read data
    max_retries: int = 3  # of a pack whose actor died


def needs(trunks: int, mesh: str, devices: int = 0) -> int:
    """Devices that a pack of so many trunks asks for: those its mesh names, and one for each run where it names no `run`.

    `devices` overrides that, and must be given where the mesh has a size of -1.
    """
    sizes = parse_mesh(mesh)
    fixed = math.prod(size for size in sizes.values() if size > 0)
    if devices:
        if devices % fixed:
            raise ConfigError(f"mesh={mesh!r} asks for a multiple of {fixed} devices, "
                              f"but actors have ray_devices={devices}")
        return devices
    if -1 in sizes.values():
        raise ConfigError(f"mesh={mesh!r} takes the devices that are there: say how many an actor owns, ray_devices=8 for "
                          "instance")
    return fixed if "run" in sizes else fixed * trunks


class Executor:
    """Trains plans on a cluster: `executor(runner, plan)` in place of `runner.run(plan)`."""

    def __init__(self, options: RayOptions, mesh: str = ""):
        if options.device and options.device not in DEVICES:
            raise ConfigError(f"ray_device={options.device!r} is not known; choose from {', '.join(DEVICES)}")
        self.options, self.mesh = options, mesh
        self.pack = max(1, needs(1, mesh, options.devices) // _fixed(mesh)) if options.devices else \
            max(1, parse_mesh(mesh).get("run", 1))  # runs that share a program, by default
        needs(self.pack, mesh, options.devices)
        _connect(options.address)
        has = ray.cluster_resources()
        self.device = options.device or next((d for d in ("tpu", "gpu") if has.get(d.upper(), 0)), "cpu")

    def describe(self) -> str:
        count = ray.cluster_resources().get(self.device.upper(), 0)
        return (f"trained by Ray, not at the rate above: {len(driver.alive())} node(s) with {count:g} {self.device.upper()}(s), "
                f"of which a pack of {self.pack} has {needs(self.pack, self.mesh, self.options.devices)}")

    def need(self, pack: Pack) -> int:
        return needs(len(pack.trunks), self.mesh, self.options.devices)

    def __call__(self, runner: runners.Runner, plan: Plan):
        driver.Sweep(self, runner, plan).run()

    def actor(self, devices: int, workdir, options):
        """An actor that Ray starts as soon as there is room."""
        if self.device == "tpu" and devices not in TPU_COUNTS:
            raise ClusterError(f"a pack needs {devices} TPU chips; Ray gives {', '.join(map(str, TPU_COUNTS))} of a host")
        owns = {"cpu": {"num_cpus": devices}, "gpu": {"num_gpus": devices, "num_cpus": self.options.cpus},
                "tpu": {"resources": {"TPU": devices}, "num_cpus": self.options.cpus}}[self.device]
        passed = {k: v for k, v in os.environ.items() if k.startswith("SCALING_") or k in PASSED}
        remote = ray.remote(actors.Trainer).options(
            **owns, max_concurrency=2, max_restarts=0, runtime_env={"env_vars": passed})
        return remote.remote(self.device, devices, workdir, dataclasses.replace(options, executor=None))


def _connect(address: str):
    """Joins a cluster as its driver. Nothing of what actors print comes through: their reports do."""
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": "WARNING"}
    if address == "auto":
        with contextlib.suppress(ConnectionError):  # none is running
            ray.init(address="auto", **quiet)
            return
    elif address != "local":
        host, _, port = address.rpartition(":")
        try:  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            raise ClusterError(f"no Ray cluster answers at ray_address={address!r} ({last_line(str(error))}): write "
                               "host:port as `ray start --head` prints it, or local for a new cluster here") from None
        try:
            ray.init(address=address, **quiet)
            return
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            raise ClusterError(f"what answers at ray_address={address!r} does not let this process join "
                               f"({last_line(str(error))}): a cluster that asks for a token, as newer ones of Ray do, "
                               "needs RAY_AUTH_MODE=token here, and the token of its nodes (docs/ray.md)") from None
    ray.init(address="local", include_dashboard=False, **quiet)


def _fixed(mesh):
    return math.prod(size for name, size in parse_mesh(mesh).items() if size > 0 and name != "run")

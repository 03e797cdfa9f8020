"""Sweeps on a Ray cluster: actors that own devices train the packs of a plan, and Ray places the actors.

    executor = RayExecutor(RayOptions(address="auto"), mesh="")
    executor(runner, plan, progress)     # every run of the plan has a record when this returns

The driver requests one actor for every waiting pack. An actor owns as many devices as the pack's mesh needs, on one node.
The actors that Ray has room for train one pack after another. All nodes share the workdir: its claims and records make
each run end exactly once, whatever dies, and a pack resumes from its last checkpoint on any actor.
"""

import contextlib
import dataclasses
import math
import os
import socket

import ray
import ray.exceptions

from scaling.devices.layouts import parse_mesh
from scaling.fields import ConfigError
from scaling.sweeps import runner as runners
from scaling.sweeps.plan import Pack, Plan
from scaling.sweeps.ray import actor as actors
from scaling.sweeps.ray import driver
from scaling.sweeps.ray.errors import ClusterError, last_line

DEVICES = ("cpu", "gpu", "tpu")
PASSED = ("JAX_COMPILATION_CACHE_DIR", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64", "LIBTPU_INIT_ARGS",
          "WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT")  # and all that begin with SCALING_
CONNECT_SECONDS = 10.0
TPU_COUNTS = (1, 2, 4, 8)  # the numbers of TPU chips that Ray assigns


@dataclasses.dataclass(frozen=True)
class RayOptions:
    """How plans are trained on a Ray cluster."""

    address: str = "auto"  # "auto": a running cluster, else a local one; "local"; or host:port
    device: str = ""  # cpu, gpu or tpu, the kind that actors own; "": the fastest kind that the cluster has
    devices: int = 0  # devices per actor; 0: as many as the mesh of the pack needs
    cpus: int = 1  # cores per actor beside its GPUs or TPU chips, for reading data
    max_retries: int = 3  # how often a pack is trained again after its actor died


def needs(trunks: int, mesh: str, devices: int = 0) -> int:
    """The number of devices that a pack of `trunks` trunks needs.

    It is the product of the sizes in `mesh`, times `trunks` unless the mesh has an axis `run`. `devices` overrides it, and
    must be given where the mesh has a size of -1. Raises ConfigError where they contradict each other.
    """
    sizes = parse_mesh(mesh)
    fixed = math.prod(size for size in sizes.values() if size > 0)
    if devices:
        if devices % fixed:
            raise ConfigError(f"mesh={mesh!r} needs a multiple of {fixed} devices, "
                              f"but actors have ray_devices={devices}")
        return devices
    if -1 in sizes.values():
        raise ConfigError(f"mesh={mesh!r} does not say how many devices an actor owns: write ray_devices=8, for example")
    return fixed if "run" in sizes else fixed * trunks


class RayExecutor:
    """Trains plans on a cluster, in place of `runner.run`."""

    def __init__(self, options: RayOptions, mesh: str = ""):
        if options.device and options.device not in DEVICES:
            raise ConfigError(f"ray_device={options.device!r} is not known; choose from {', '.join(DEVICES)}")
        self.options, self.mesh = options, mesh
        runs = needs(1, mesh, options.devices) // _fixed(mesh) if options.devices else parse_mesh(mesh).get("run", 1)
        self.pack = max(1, runs)  # the default number of trunks in a pack
        needs(self.pack, mesh, options.devices)
        _connect(options.address)
        has = ray.cluster_resources()
        self.device = options.device or next((d for d in ("tpu", "gpu") if has.get(d.upper(), 0)), "cpu")

    def describe(self) -> str:
        """One sentence about the cluster, for the printed plan."""
        kind, devices = self.device.upper(), needs(self.pack, self.mesh, self.options.devices)
        count = ray.cluster_resources().get(kind, 0)
        return (f"trained by Ray, at another rate than above: {len(driver.alive())} node(s) with {count:g} {kind}(s); "
                f"a pack of {self.pack} uses {devices}")

    def need(self, pack: Pack) -> int:
        """The number of devices that a pack needs."""
        return needs(pack.width, self.mesh, self.options.devices)

    def __call__(self, runner: runners.Runner, plan: Plan, progress: runners.ProgressBar) -> None:
        driver.Driver(self, runner, plan, progress).run()

    def actor(self, devices: int, workdir, options):
        """An actor that Ray starts as soon as there is room."""
        if self.device == "tpu" and devices not in TPU_COUNTS:
            raise ClusterError(f"a pack needs {devices} TPU chips, but Ray assigns {', '.join(map(str, TPU_COUNTS))}: "
                               "choose another ray_devices or mesh")
        owns = {"cpu": {"num_cpus": devices}, "gpu": {"num_gpus": devices, "num_cpus": self.options.cpus},
                "tpu": {"resources": {"TPU": devices}, "num_cpus": self.options.cpus}}[self.device]
        passed = {k: v for k, v in os.environ.items() if k.startswith("SCALING_") or k in PASSED}
        remote = ray.remote(actors.Trainer).options(
            **owns, max_concurrency=2, max_restarts=0, runtime_env={"env_vars": passed})
        return remote.remote(self.device, devices, workdir, dataclasses.replace(options, executor=None))


def _connect(address: str):
    """Joins a cluster as its driver. The output of actors is hidden, since their reports say everything."""
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": "WARNING"}
    if address == "auto":
        with contextlib.suppress(ConnectionError):  # no cluster is running
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
            raise ClusterError(f"the cluster at ray_address={address!r} does not let this process join "
                               f"({last_line(str(error))}): if it demands a token, as newer versions of Ray do, "
                               "set RAY_AUTH_MODE=token here, and the token of its nodes (docs/ray.md)") from None
    ray.init(address="local", include_dashboard=False, **quiet)


def _fixed(mesh):
    return math.prod(size for name, size in parse_mesh(mesh).items() if size > 0 and name != "run")

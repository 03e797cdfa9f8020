"""Train a sweep, fit its law, forecast a larger run, train that, check, report.

    python -m experiments.run --config=configs/quickstart.py --workdir=runs/quickstart

Any field of the config can be overridden: --config.optim.weight_decay=0.05. Flags and fields can come from the
environment, as SCALING_WORKDIR and SCALING_CONFIG__OPTIM__WEIGHT_DECAY; the command line wins. Interrupt it at any
moment and run the same command again: it goes on where it was. Several processes may share one workdir. SIGTERM saves
everything first, and ends with exit status 75: start me again.

One job of several processes, all of them on one shared workdir: the same command in each, found by SLURM, Open MPI or a
TPU slice, or with --coordinator=host:port --processes=n --process=i. When one dies the others end with status 75.
"""

import difflib
import importlib.util
import shlex
import sys

from scaling.devices.layouts import one_cpu_device_per_core

one_cpu_device_per_core()  # before JAX starts

import jax  # noqa: E402
from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from experiments import _environment  # noqa: E402
from scaling import laws  # noqa: E402
from scaling.devices import exits, hosts  # noqa: E402
from scaling.fields import ConfigError, DataError, EvaluateError  # noqa: E402
from scaling.results import logs, records  # noqa: E402
from scaling.store import checkpoint, files  # noqa: E402
from scaling.study.study import Definition, Study  # noqa: E402
from scaling.sweeps import runner  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/; its docstring says what it costs and shows.",
                                          lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of records, fit, forecast and report; gs://... too.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the plan and stop.")
_PACK = flags.DEFINE_integer(
    "pack", 0, "Runs that one program trains side by side; 0: one for each device, or 1 where the layout divides models.")
_MESH = flags.DEFINE_string("mesh", "", "Sizes of mesh axes, such as data=4,tensor=-1; what is left out is chosen.")
_WRITERS = flags.DEFINE_list("writers", ["jsonl"], "Where metrics go: jsonl (always), tensorboard, wandb.")
_CHECKPOINT = flags.DEFINE_float("checkpoint_seconds", 30.0, "Seconds of training between two checkpoints.")
_LOG_EVERY = flags.DEFINE_integer("log_every", 4, "Steps that one point of a training curve averages.")
_SHARD = flags.DEFINE_string("shard", "", "i/n, from 0/n: train only that part of the sweep, as SLURM arrays do.")
_EXECUTOR = flags.DEFINE_enum("executor", "local", ["local", "ray"], "Where packs train: in this process, or on Ray.")
_RAY = flags.DEFINE_string("ray_address", "auto", "auto is a running Ray cluster, else a new one here; local; or host:port.")
_RAY_DEVICE = flags.DEFINE_string("ray_device", "", "cpu, gpu or tpu: what a Ray actor owns; else the best that there is.")
_RAY_DEVICES = flags.DEFINE_integer("ray_devices", 0, "Devices of a Ray actor; 0 is what its --mesh needs.", lower_bound=0)
_RAY_CPUS = flags.DEFINE_integer("ray_cpus", 1, "Cores that a Ray actor has beside its GPUs or TPU chips.", lower_bound=0)
_RETRIES = flags.DEFINE_integer("max_retries", 3, "How often Ray trains a pack again whose actor died.", lower_bound=0)

_KEEP = flags.DEFINE_integer("keep_checkpoints", 2, "The newest checkpoints of what is under way that stay.", 1)
_BEST = flags.DEFINE_integer("keep_best", 0, "Checkpoints of lowest loss that stay in checkpoints/, finished or not.", 0)
_COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0, in a job of several processes.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many processes the job has.")
_PROCESS = flags.DEFINE_integer("process", -1, "Which of them this is, from 0 on.")

# What a user can cause and mend: shown as one sentence, without a traceback.
EXPECTED = (ConfigError, checkpoint.CheckpointError, DataError, EvaluateError, files.WorkdirError,
            files.DiskFull, laws.LawError, logs.LogError, records.RecordError)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    return int(index), int(count)


@flags.validator("shard", "takes i/n with 0 <= i < n, such as 0/8")
def _is_shard(text):
    index, slash, count = text.partition("/")
    return not text or bool(slash) and index.isdecimal() and count.isdecimal() and int(index) < int(count)


def load(path: str):
    """The config file as a module: `get_config()`, `sweep(config)` and, if there is a forecast, `target(config, rate)`.

    What follows a colon in `path` is the argument of its `get_config`.
    """
    spec = importlib.util.spec_from_file_location("config_file", path.partition(":")[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ray_executor():
    """Trains on a Ray cluster. This process stays on the CPU, so that actors on its node can have the accelerators."""
    try:
        from scaling.sweeps.ray.executor import RayExecutor, RayOptions
    except ModuleNotFoundError as error:
        raise ConfigError(f"--executor=ray: {error}; pip install 'scaling[ray]'") from None
    jax.config.update("jax_platforms", "cpu")
    options = RayOptions(_RAY.value, _RAY_DEVICE.value, _RAY_DEVICES.value, _RAY_CPUS.value, _RETRIES.value)
    return RayExecutor(options, _MESH.value)


def define(module, config) -> Definition:
    target = getattr(module, "target", None)
    return Definition(
        title=config.title, metric=config.metric, sweep=module.sweep(config), prompts=tuple(config.prompts),
        law=config.law, beside=tuple(config.beside), config=config.to_dict(),
        target=target and (lambda rate: target(config, rate)))


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        executor = ray_executor() if _EXECUTOR.value == "ray" else None
        if executor is None:
            hosts.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        module = load(config_flags.get_config_filename(flags.FLAGS["config"]))
        options = runner.TrainingOptions(
            checkpoint_seconds=_CHECKPOINT.value, log_every=_LOG_EVERY.value, writers=tuple(_WRITERS.value),
            mesh=_MESH.value, keep_checkpoints=_KEEP.value, keep_best=_BEST.value, executor=executor)
        command = "python -m experiments.run " + " ".join(map(shlex.quote, sys.argv[1:]))
        pack = _PACK.value or (executor.pack if executor else 0)
        job = Study(define(module, _CONFIG.value), _WORKDIR.value, options, pack, command)
        print(job.describe(), flush=True)
        if executor:
            print(executor.describe(), flush=True)
        if not _DRY_RUN.value:
            exits.listen_for_sigterm()
            job.train_shard(*_shard(_SHARD.value)) if _SHARD.value else job.go()
    except EXPECTED as error:
        hosts.exit_with_error(error, f"error: {error}", 1)
    except exits.Preempted:
        if hosts.is_lead():
            print("\nasked to stop (SIGTERM): everything is saved; run the same command again to go on", file=sys.stderr)
        hosts.barrier("stopped")
        sys.exit(exits.RESTART)
    except KeyboardInterrupt:
        hosts.exit_with_error(KeyboardInterrupt(), "\nstopped; run the same command again to go on", 130)
    except Exception as error:
        hosts.exit_with_error(error, None, 1)


def refuse_unknown(argv):
    """Parse flags; an unknown field of the config ends in one sentence with the nearest ones."""
    try:
        _environment.insert(argv)
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        print(f"error: {_field_sentence(argv, error)}", file=sys.stderr)
    except flags.Error as error:
        print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _field_sentence(argv, error):
    given = [a.lstrip("-").partition("=")[0].removeprefix("config.") for a in argv if a.lstrip("-").startswith("config.")]
    path = next((a.partition("=")[2] for a in argv if a.lstrip("-").startswith("config=")), None)
    if path is None:
        return str(error).strip("'\"")
    _, colon, argument = path.partition(":")
    names = list(_paths(load(path).get_config(*[argument] * bool(colon))))
    unknown = [g for g in given if g not in names]
    if not unknown:
        return str(error).strip("'\"")
    by_leaf = {n for u in unknown for n in names if n.rpartition(".")[2] == u.rpartition(".")[2]}
    close = sorted(by_leaf) or difflib.get_close_matches(unknown[0], names, n=3, cutoff=0.3)
    return f"no field --config.{unknown[0]} in {path}; nearest: {', '.join('--config.' + c for c in close) or 'none'}"


def _paths(config, prefix=""):
    for key, value in config.items():
        yield prefix + key
        if hasattr(value, "items"):
            yield from _paths(value, f"{prefix}{key}.")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    app.run(main, flags_parser=refuse_unknown)

"""Train a sweep, fit its law, forecast a larger run, train that, check, report.

    python -m experiments.run --config=configs/quickstart.py --workdir=runs/quickstart

Any field of the config can be overridden: --config.optim.weight_decay=0.05. Flags and fields can come from the
environment, such as SCALING_WORKDIR and SCALING_CONFIG__OPTIM__WEIGHT_DECAY; the command line wins. The command can be
interrupted at any moment; the same command goes on where it was. Several processes may share one workdir. SIGTERM saves
everything and ends with exit status 75, which means: start me again.

A workdir belongs to one study, which may grow: more sizes, data, seeds or rates. Another config or other data are refused,
and the fields that differ are named. --workdir=NEW --fork=OLD starts another study in NEW and copies the finished runs that
both plan.

--json prints the plan, the fit, the forecast, its check and the path of the report as one line of JSON, and text to
standard error.

For one job of several processes on a shared workdir, run the same command in each. Under SLURM, Open MPI or on a TPU slice
the processes find each other; elsewhere give --coordinator=host:port --processes=n --process=i. When one process dies, the
others end with status 75.
"""

import shlex
import sys

from scaling.devices.cores import one_cpu_device_per_core

one_cpu_device_per_core()  # before JAX starts, which is not imported for --help

from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from experiments._config_flags import refuse_unknown  # noqa: E402
from experiments._errors import ending_well  # noqa: E402
from experiments._json import answering  # noqa: E402
from scaling.devices import exits  # noqa: E402
from scaling.fields import ConfigError  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/; its docstring says what it costs and shows.",
                                          lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of records, fit, forecast and report; may be gs://...")
_FORK = flags.DEFINE_string("fork", None, "An earlier workdir: finished runs that both studies plan are copied from it.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the plan, the data found and what is done, create nothing, and stop.")
_JSON = flags.DEFINE_bool("json", False, "Print what was planned and found as one line of JSON, text to standard error.")
_PACK = flags.DEFINE_integer(
    "pack", 0, "Runs that one program trains together; 0 is one per device, or 1 where the layout divides models.", 0)
_MEASURE = flags.DEFINE_enum(
    "measure", "auto", ["auto", "always", "never"], "Measure, and keep, what microbatch and how many runs side by side are "
    "fastest: for programs that train for 15 minutes (auto), for all, or never.")
_MESH = flags.DEFINE_string("mesh", "", "Sizes of mesh axes, such as data=4,tensor=-1; the others are chosen.")
_WRITERS = flags.DEFINE_list("writers", ["jsonl"], "Where metrics are written: jsonl (always), tensorboard, wandb.")
_CHECKPOINT = flags.DEFINE_float("checkpoint_seconds", 30.0, "Seconds of training between two checkpoints.", 0.0)
_LOG_EVERY = flags.DEFINE_integer("log_every", 4, "The steps that one point of a training curve averages.", 1)
_PROFILE = flags.DEFINE_integer("profile", 0, "Steps of the first run that are traced for xprof, after compilation.", 0)
_SHARD = flags.DEFINE_string("shard", "", "i/n with i from 0 on: train only part i of n parts of the sweep.")
_EXECUTOR = flags.DEFINE_enum("executor", "local", ["local", "ray"], "Where packs train: in this process or on Ray.")
_RAY = flags.DEFINE_string("ray_address", "auto", "auto (a running Ray cluster, else a new one here), local, or host:port.")
_RAY_DEVICE = flags.DEFINE_string("ray_device", "", "The device of a Ray actor: cpu, gpu or tpu; empty takes the best.")
_RAY_DEVICES = flags.DEFINE_integer("ray_devices", 0, "The devices of a Ray actor; 0 is what --mesh needs.", lower_bound=0)
_RAY_CPUS = flags.DEFINE_integer("ray_cpus", 1, "The cores of a Ray actor, beside its GPUs or TPU chips.", lower_bound=0)
_RETRIES = flags.DEFINE_integer("max_retries", 3, "How often Ray trains a pack again after its actor died.", lower_bound=0)
_KEEP = flags.DEFINE_integer("keep_checkpoints", 2, "How many of the newest checkpoints of an unfinished pack are kept.", 1)
_BEST = flags.DEFINE_integer("keep_best", 0, "How many checkpoints of lowest loss are kept, also of finished packs.", 0)
_TRUNKS = flags.DEFINE_enum("keep_trunks", "auto", ["auto", "all", "none"], "Whose last states are kept, for longer runs "
                            "of later commands: trunks of three runs or more (auto), all, or none.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0 in a job of several processes.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "The number of processes of the job.")
_PROCESS = flags.DEFINE_integer("process", -1, "The number of this process, from 0 on.")
RESULTS = ("fit", "forecast", "forecast_check")  # files of the workdir that --json shows


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    return int(index), int(count)


@flags.validator("shard", "must be i/n with 0 <= i < n, such as 0/8")
def _is_shard(text):
    index, slash, count = text.partition("/")
    return not text or bool(slash) and index.isdecimal() and count.isdecimal() and int(index) < int(count)


def ray_executor():
    """An executor that trains on a Ray cluster. This process keeps to the CPU and leaves the accelerators to actors."""
    try:
        from scaling.sweeps.ray.executor import RayExecutor, RayOptions
    except ModuleNotFoundError as error:
        raise ConfigError(f"--executor=ray: {error}; pip install 'scaling[ray]'") from None
    import jax
    jax.config.update("jax_platforms", "cpu")
    options = RayOptions(_RAY.value, _RAY_DEVICE.value, _RAY_DEVICES.value, _RAY_CPUS.value, _RETRIES.value)
    return RayExecutor(options, _MESH.value)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    with ending_well(here=_EXECUTOR.value != "ray"), answering(_JSON.value) as answer:
        answer |= train()


def train() -> dict:
    """Trains and concludes the study that the flags name, or describes it with --dry_run. Returns what --json prints."""
    import jax

    from scaling.devices import hosts
    from scaling.devices.compilation import keep_compiled
    from scaling.store import files
    from scaling.study import configs
    from scaling.study.study import Study
    from scaling.sweeps import runner

    jax.config.update("jax_numpy_rank_promotion", "raise")
    executor = ray_executor() if _EXECUTOR.value == "ray" else None
    if executor is None:
        hosts.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    keep_compiled()
    module = configs.load_config(config_flags.get_config_filename(flags.FLAGS["config"]))
    options = runner.TrainingOptions(
        checkpoint_seconds=_CHECKPOINT.value, log_every=_LOG_EVERY.value, writers=tuple(_WRITERS.value),
        mesh=_MESH.value, keep_checkpoints=_KEEP.value, keep_best=_BEST.value, keep_trunks=_TRUNKS.value,
        executor=executor, profile=_PROFILE.value)
    command = "python -m experiments.run " + " ".join(map(shlex.quote, sys.argv[1:]))
    pack = _PACK.value or (executor.pack if executor else 0)
    job = Study(configs.define_study(module, _CONFIG.value), _WORKDIR.value, options, pack, command,
                _FORK.value, alike=bool(_SHARD.value))
    if executor is None and not _DRY_RUN.value and not _SHARD.value:
        job.prepare(_MEASURE.value)
    print(job.describe(), flush=True)
    if executor:
        print(executor.describe(), flush=True)
    found = {"workdir": _WORKDIR.value, **job.values()}
    if not _DRY_RUN.value:
        exits.listen_for_signals()
        if _SHARD.value:
            job.train_shard(*_shard(_SHARD.value))
        else:
            found["report"] = job.go()
            found |= {path.stem: files.read_json(path) if path.exists() else None
                      for path in (job.workdir / f"{name}.json" for name in RESULTS)}
        if job.runner.profile.missed:
            print("nothing was traced, since no step was left to train after the first call of a program; --profile needs "
                  "a workdir with runs that are not finished", file=sys.stderr)
    return found


def start():
    """Runs the command."""
    flags.mark_flags_as_required(["config", "workdir"])
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=refuse_unknown)


if __name__ == "__main__":
    start()

"""What can be refused before anything is trained or created, each time in one sentence: settings, data, metrics, prompts.

A study calls this for a dry run and for a run alike, so that a dry run refuses whatever the run would.
"""

import importlib.util
import json
from collections.abc import Iterable

from scaling import experiment as experiments
from scaling import families
from scaling.devices.divisibility import check_divisible
from scaling.devices.layouts import make_mesh, parse_mesh
from scaling.fields import ConfigError, DataError, leaves, nearest
from scaling.results import logs
from scaling.store import files
from scaling.study import checks
from scaling.study.definition import Definition
from scaling.study.prompts import PromptError, check_prompts, what_generates
from scaling.study.sampling import check_sampler
from scaling.sweeps import stopping
from scaling.sweeps.plan import Plan
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.training.accumulation import accumulation_steps

MOST_TUNED = 10  # times the sweep's FLOPs
MOST_SEEDS = 1000  # of a target


def check_settings(definition: Definition, options: TrainingOptions) -> list[str]:
    """Refuses settings that no data are needed to judge. Returns sentences about what the study will not have."""
    said = checks.check_study(definition)
    if definition.stop_early and stopping.parse_rule(definition.stop_early) is None:
        raise ConfigError(f"stop_early={definition.stop_early!r} is no rule; write median, halving, or halving:3 to keep a "
                          "third (up to halving:9), or leave it empty for none")
    if definition.stop_early.startswith(stopping.HALVING) and options.keep_trunks == "none":
        raise ConfigError(f"stop_early={definition.stop_early!r} goes on from the trunks of shorter runs; leave out "
                          "--keep_trunks=none, or write stop_early=median")
    if definition.stop_early and options.executor is not None:
        raise ConfigError(f"stop_early={definition.stop_early!r} compares packs that train in turn, and an executor trains "
                          "them at once; leave out --executor, or stop_early")
    if definition.stop_early and any(run.start is not None for run in definition.sweep):
        raise ConfigError(f"stop_early={definition.stop_early!r} may stop the run that another one begins with; leave it "
                          "empty for a sweep with runs that begin with others")
    _check_tuning(definition)
    seeds = definition.target_seeds
    if isinstance(seeds, bool) or not isinstance(seeds, int) or not 1 <= seeds <= MOST_SEEDS:
        raise ConfigError(f"target_seeds={seeds!r} must be a number of seeds from 1 to {MOST_SEEDS}; write 3, so that the "
                          "forecast is compared with the mean of three runs")
    parse_mesh(options.mesh)
    for writer in options.writers:
        if writer not in logs.WRITERS:
            raise ConfigError(f"--writers={writer} is not known; {nearest(writer, logs.WRITERS)}")
    if "wandb" in options.writers and importlib.util.find_spec("wandb") is None:
        raise ConfigError("--writers=wandb needs a package that is not installed: pip install wandb, or leave it out")
    return said


def check_profile(options: TrainingOptions, workdir) -> None:
    """Refuses a trace that nobody would write."""
    if options.profile and options.executor is not None:
        raise ConfigError("--profile traces this process, and an executor trains in others; leave out --executor, or "
                          "--profile")
    if options.profile and not files.is_local(workdir):
        raise ConfigError(f"--profile writes a trace into the workdir, which must be a local folder, not {workdir}; name "
                          "one with --workdir, or leave out --profile")


def _check_tuning(definition: Definition) -> None:
    tune, edges = definition.tune, definition.fit_edges
    if isinstance(tune, bool) or not isinstance(tune, (int, float)) or not 0 <= tune <= MOST_TUNED:
        raise ConfigError(f"tune={tune!r} must be a share of the sweep's FLOPs from 0 to {MOST_TUNED}, not a percentage; "
                          "write 0.25 for a quarter, or 0 for none")
    check_sampler(definition.tune_sampler, definition.tune_trials, tune)
    if not isinstance(edges, bool):
        raise ConfigError(f"fit_edges={edges!r} must be True or False: whether the fit takes cells whose best learning "
                          "rate is at the edge of those tried")


def check_plans(definition: Definition, plans: Iterable[Plan], runner: Runner) -> None:
    """Refuses plans whose data, judge, metrics, prompts or programs cannot be used. It trains and compiles nothing."""
    plans = list(plans)
    packs, asked = [pack for plan in plans for pack in plan.packs], {run for plan in plans for run in plan.runs}
    seen = set()
    for pack in packs:
        for run in pack.runs:
            e = run.experiment
            key = json.dumps([e.data.source_fields(), e.data.evaluated, e.data.judge_fields()])
            if key not in seen:
                seen.add(key)
                if run in asked or not runner.records.finished(run.fingerprint):  # the data of an imported run are not here
                    _check_data(e, runner)
                if run in asked:
                    checks.check_study(definition, runner.source(e).splits)
            _check_vocabulary(e, runner)
    traced = set()
    for pack in {(pack.experiment.family, pack.program): pack for pack in packs}.values():
        e = pack.experiment
        if asked & set(pack.runs):
            _check_prompts(definition.prompts, e, runner)
        if runner.options.executor is None:  # else other devices than those of this process train
            mesh = make_mesh(pack.width, runner.options.mesh, e.layout)
            check_divisible(e, mesh)
            if e.microbatch:
                accumulation_steps(e, mesh, pack.width)
            kind = json.dumps(_apart_from_size(e), default=str)
            if kind not in traced:  # the largest models need not be traced to see that their kind can be
                traced.add(kind)
                runner.programs.check(pack)


def _apart_from_size(e: experiments.Experiment) -> dict:
    """The fields of a program that do not count anything in its family."""
    return {path: value for path, (value, kind) in leaves(e).items() if kind != "knob"
            and not (path.startswith("family.") and isinstance(value, (int, float)) and not isinstance(value, bool))}


def _check_data(e: experiments.Experiment, runner: Runner) -> None:
    source = runner.source(e)
    if not source.splits:
        raise ConfigError(f"data.name={e.data.name} has no evaluation set, so no run would have a metric: give more data, "
                          "or files that can be divided")
    try:
        runner.evaluation(e)
    except ValueError as error:
        raise ConfigError(f"data.evaluation_{e.data.unit}={e.data.evaluated:,} is not possible: {error}") from None
    if e.data.judge_fields() and hasattr(e.family, "sample"):
        e.data.check_judge(source)


def _check_vocabulary(e: experiments.Experiment, runner: Runner) -> None:
    """Refuses to take tables of tokens from a run whose tokens are others."""
    if e.start is None or not experiments.takes_vocabulary(e):
        return
    base = e.start.experiment
    here, there = (one.data.vocabulary(runner.source(one)) for one in (e, base))
    if here != there:
        raise ConfigError(f"start: tables are read by {here} here, and by {there} in the run that this one begins with. A "
                          "tokenizer that is trained belongs to its text, so write data.tokenizer=bytes in both, or name "
                          "subtrees without tables, as in start.takes={'model/layers': 'model/layers'}")


def _check_prompts(prompts: Iterable[str], e: experiments.Experiment, runner: Runner) -> None:
    prompts = tuple(prompts)
    if not prompts:
        return
    if what_generates(e.family) != "text":
        raise ConfigError(f"prompts={prompts!r} are for families that continue text, and {families.name(e.family)} does "
                          "not: leave prompts out")
    try:
        check_prompts(prompts, e.family, runner.source(e).tokenizer)
    except (PromptError, DataError) as error:
        raise ConfigError(f"prompts: {error}") from None

"""What generative models are said to do with scale: each claim is tried, and gets a verdict by a rule written first.

    python -m experiments.claims --list
    python -m experiments.claims --run=size,data --budget=5m --workdir=runs/claims
    python -m experiments.claims --report --workdir=runs/claims

The first command lists the claims with what they cost. The second registers the rules of two claims, trains their runs
under runs/claims/size and runs/claims/data, and prints a verdict for each: reproduced, refuted or undecided, with the
number that decides and its 90% interval. It can be interrupted and run again. A verdict is written once; another trial
takes another --workdir. The third prints the table of all verdicts in the workdir.

Budgets are of two CPU cores: 5m, 30m and 2h are about the minutes and hours that runs take there. gpu is for one GPU, where
runs have up to a few million parameters and take hours; --pack=16 trains as many small ones side by side.

--parts=transformer tries a claim for some of its families only. --set=data.name=pycode/stdlib changes a field of all runs
that have it, such as the data, so that the same claim can be tried elsewhere, and the verdict says so. --dry_run prints
what would be trained, at what cost, and creates nothing. --json prints the claims, plans or verdicts as one line of JSON.

--record=docs/claims adds the verdicts of the workdir to a folder, writes a page and a figure for each claim of that folder
beside it, and the table into --readme. Any flag can come from the environment, such as SCALING_WORKDIR; the command line
wins. Exit status: 0; 1 when a claim cannot be tried; 2 for flags.
"""

import pathlib
import shlex
import sys

from scaling.devices.layouts import one_cpu_device_per_core

one_cpu_device_per_core()  # before JAX starts

from absl import app, flags  # noqa: E402

from experiments import _environment, claims  # noqa: E402
from experiments._errors import ending_well  # noqa: E402
from experiments._json import answering  # noqa: E402
from scaling.claims import BUDGETS, Trial, pages, parse_changes, registry  # noqa: E402
from scaling.devices import exits  # noqa: E402
from scaling.devices.compilation import keep_compiled  # noqa: E402
from scaling.fields import ConfigError  # noqa: E402
from scaling.store import files  # noqa: E402
from scaling.sweeps.runner import TrainingOptions  # noqa: E402

_LIST = flags.DEFINE_bool("list", False, "List the claims, with what they cost.")
_RUN = flags.DEFINE_list("run", [], "Claims to try, by their ids; all tries all of them.")
_BUDGET = flags.DEFINE_enum("budget", "5m", list(BUDGETS), "What the runs of a claim may cost, on two CPU cores, or a GPU.")
_WORKDIR = flags.DEFINE_string("workdir", None, "A directory that gets a folder for each claim.")
_PARTS = flags.DEFINE_list("parts", [], "Parts of the claims, such as families; all by default.")
_SET = flags.DEFINE_multi_string("set", [], "A field of all runs and its value, such as data.name=pycode/stdlib.")
_PACK = flags.DEFINE_integer("pack", 0, "How many runs train side by side; 0 lets the devices decide.", lower_bound=0)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be trained, create nothing, and stop.")
_REPORT = flags.DEFINE_bool("report", False, "Print the table of the verdicts in --workdir, or in --record.")
_RECORD = flags.DEFINE_string("record", None, "A folder that keeps verdicts; pages and figures are written beside it.")
_README = flags.DEFINE_string("readme", None, "With --record: a README whose table of claims is written again.")
_JSON = flags.DEFINE_bool("json", False, "Print claims, plans or verdicts as one line of JSON, text to standard error.")


def list_claims() -> dict:
    """Prints the claims, and returns them as values."""
    found = {name: claims.find(name) for name in claims.names()}
    for name, claim in found.items():
        print(f"{name}: {claim.statement}\n  {claim.source}")
        print("".join(f"  {budget}: {cost}\n" for budget, cost in claim.cost.items()))
    return {"claims": {name: {"statement": claim.statement, "source": claim.source, "cost": claim.cost}
                       for name, claim in found.items()}}


def trial(name: str) -> Trial:
    command = f"python -m experiments.claims {shlex.join(sys.argv[1:])}"
    return Trial(claims.find(name), _BUDGET.value, pathlib.Path(_WORKDIR.value) / name, TrainingOptions(),
                 parse_changes(_SET.value), _PARTS.value, _PACK.value, command)


def try_claims(wanted: list[str]) -> dict:
    """Tries claims, or describes what it would train, and returns the verdicts, or the plans, as values."""
    if not _WORKDIR.value:
        raise ConfigError("--run needs --workdir, a directory that gets a folder for each claim")
    plans, verdicts = {}, []
    for name in claims.names() if wanted == ["all"] else wanted:
        found = trial(name)
        if _DRY_RUN.value:
            print(found.describe(), flush=True)
            plans[name] = {part: study.values() for part, study in found.studies.items()}
            continue
        verdict = found.run(lambda text: print(text, flush=True))
        print(f"\n{pages.verdict_table([verdict])}\n", flush=True)
        verdicts.append(verdict)
    return {"plans": plans} if _DRY_RUN.value else {"verdicts": verdicts}


def report() -> dict:
    """Prints the table of verdicts, writes what the flags name, and returns the verdicts."""
    found = []
    if _WORKDIR.value:
        folders = sorted(path.parent for path in pathlib.Path(_WORKDIR.value).glob(f"*/{registry.VERDICT}"))
        found = [registry.read_verdict(folder) for folder in folders]
    if _RECORD.value:
        record = pathlib.Path(_RECORD.value)
        record.mkdir(parents=True, exist_ok=True)
        for verdict in found:
            files.write_json(record / f"{verdict['id']}.json", verdict)
        found = pages.read_verdicts(record)
        pages.write(found, record.parent)
    if not found:
        raise ConfigError("there is no verdict to show; name the --workdir of an earlier --run, or a --record")
    if _README.value:
        readme = pathlib.Path(_README.value)
        files.atomic_write(readme, pages.with_table(readme.read_text(), found, _README.value))
    print(pages.verdict_table(found))
    return {"verdicts": found}


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if not (_LIST.value or _RUN.value or _REPORT.value):
        raise app.UsageError("nothing to do: write --list, --run=ID --workdir=DIR, or --report")
    with ending_well(), answering(_JSON.value) as answer:
        if _LIST.value:
            answer |= list_claims()
        if _RUN.value:
            keep_compiled()
            exits.listen_for_signals()
            answer |= try_claims(_RUN.value)
        if _REPORT.value:
            answer |= report()


if __name__ == "__main__":
    app.run(main, flags_parser=_environment.parse)

"""Names and counts of runs that results version 2 trained, so that their workdirs are read and resumed.

Version 2 named a run by `family.remat`, `family.scan` and `family.attention` as well, and its records hold the FLOPs that
training executed where later ones hold those of the model.
"""

from scaling import cost
from scaling.experiment.experiment import Experiment, from_dict, named_by

ALSO_NAMED_BY = ("family.attention", "family.remat", "family.scan")


def fingerprint_of_version_2(experiment: Experiment, data_fingerprint: str) -> str:
    """The name that results version 2 gave to a run."""
    return named_by(experiment, data_fingerprint, 2, ALSO_NAMED_BY)


def with_model_flops(record: dict) -> dict:
    """A record of results version 2 with `flops` of the model, and those that were executed as `flops_executed`.

    A record without a whole experiment, such as one written by hand, stays as it is.
    """
    try:
        experiment = from_dict(record["experiment"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return record
    players = cost.player_flops(experiment.family, experiment.data.batch)
    counted = {f"flops_{name}": flops * experiment.steps for name, flops in players.items() if f"flops_{name}" in record}
    return {**record, "flops": sum(players.values()) * experiment.steps, "flops_executed": record["flops"], **counted}

"""Experiments, which determine runs, and sweeps of experiments.

    base = experiment.from_config(experiment.config("transformer"))
    runs = experiment.grid(base, {"optim.learning_rate": [2e-3, 4e-3], "seed": [0, 1, 2]})
"""

from scaling.experiment.data import KINDS, Images, Text
from scaling.experiment.experiment import (
    RESULTS_VERSION,
    SCHEDULES,
    Experiment,
    Optim,
    config,
    family_at,
    fingerprint,
    from_config,
    from_dict,
    knobs,
    program_key,
    to_dict,
    validate,
)
from scaling.experiment.sweep import chain, grid, where, zipped

__all__ = ["KINDS", "RESULTS_VERSION", "SCHEDULES", "Experiment", "Images", "Optim", "Text", "chain", "config", "family_at",
           "fingerprint", "from_config", "from_dict", "grid", "knobs", "program_key", "to_dict", "validate", "where",
           "zipped"]

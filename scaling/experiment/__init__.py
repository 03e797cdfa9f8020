"""Experiments, which determine runs, and sweeps of experiments.

    base = experiment.from_config(experiment.config("transformer"))
    runs = experiment.grid(base, {"optim.learning_rate": [2e-3, 4e-3], "seed": [0, 1, 2]})
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.experiment.experiment import (
        PARAMETRIZATIONS,
        SCHEDULES,
        Experiment,
        Optim,
        config,
        family_at,
        from_config,
        from_dict,
        knobs,
        to_dict,
    )
    from scaling.experiment.kinds._discovery import determined, find_kind, kind_read
    from scaling.experiment.kinds.classified import Classified
    from scaling.experiment.kinds.images import Images
    from scaling.experiment.kinds.labelled import Labelled
    from scaling.experiment.kinds.pairs import Pairs
    from scaling.experiment.kinds.text import Text
    from scaling.experiment.legacy import RESULTS_VERSION, fingerprint, made_from, results_version
    from scaling.experiment.names import program_key
    from scaling.experiment.rules import RateRule, by_rule
    from scaling.experiment.start import Start, bases, taken, takes_vocabulary
    from scaling.experiment.sweep import chain, grid, where, zipped
    from scaling.experiment.validation import validate

__getattr__, __dir__ = lazy(__name__)
__all__ = ["PARAMETRIZATIONS", "RESULTS_VERSION", "SCHEDULES", "Classified", "Experiment", "Images", "Labelled", "Optim",
           "Pairs", "RateRule", "Start", "Text", "bases", "by_rule", "chain", "config", "determined", "family_at",
           "fingerprint", "find_kind", "from_config", "from_dict", "grid", "kind_read", "knobs", "made_from", "program_key",
           "results_version", "taken", "takes_vocabulary", "to_dict", "validate", "where", "zipped"]

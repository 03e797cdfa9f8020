"""How much data does pretraining save? Transformers that know other Python packages learn the standard library.

    python -m experiments.run --config=configs/finetune.py --workdir=runs/finetune/tuned
    python -m experiments.run --config=configs/finetune.py:scratch --workdir=runs/finetune/scratch

Every size is pretrained once, on the packages that are installed here (pycode/environment). Runs on four small amounts of
the standard library (pycode/stdlib) begin with its parameters. The variant `scratch` trains the same sizes on the same and
on larger amounts, from fresh parameters. docs/finetuning.md says how to read the effective data transferred off the two,
and what to compare it with: D_T = k D_F^0.18 N^0.38 (Hernandez et al. 2102.01293, for Python from text).
`--config.optim.trainable=last:1` freezes all but the last layer and the readout, `head` all but the readout.

Cost: two CPU cores, about five minutes for both; 15 and 18 runs in 9 programs, 5.8e12 FLOPs of the models.
Expect (not run at this size yet): at every size and amount the fine-tuned run has the lower loss, and the gap closes as the
amount grows.
"""

from scaling import experiment
from scaling.experiment import chain, grid


def get_config(variant="tuned"):
    config = experiment.config("transformer")
    config.title = "Transformers that begin with what they know of other packages"
    config.metric, config.prompts, config.tune = "bits_per_byte", ("def ",), 0.0
    config.data.name = "pycode/stdlib"
    config.widths = (16, 32, 64)
    config.tokens = (65_536, 131_072, 262_144, 524_288)
    pretraining = experiment.config("transformer")
    pretraining.data.update({"name": "pycode/environment", "tokens": 2_097_152})
    for each, rate in ((config, 1e-2), (pretraining, 2e-2)):
        each.family.update({"layers": 2, "head_dim": 16})
        each.data.update({"length": 128, "batch": 4, "evaluation_tokens": 131_072})
        each.optim.update({"name": "muon", "warmup": 20, "learning_rate": rate, "table_rate": 8.0})
    if variant == "scratch":
        config.title = "The same Transformers from fresh parameters"
        config.optim.learning_rate = 2e-2
        config.tokens += (1_048_576, 2_097_152)
    else:
        config.start = {"experiment": pretraining, "takes": {}}
    return config


def sweep(config):
    base, runs = experiment.from_config(config), []
    for width in config.widths:
        sized = config.copy_and_resolve_references()
        sized.family.width = width
        family = experiment.family_at(sized, config.family.size)
        sizes = {"family": [family]} | ({"start.experiment.family": [family]} if base.start else {})
        runs += grid(base, {**sizes, "data.tokens": list(config.tokens)})
    return chain(runs)

"""How much data does pretraining save? Transformers that know other Python packages learn the standard library.

    python -m experiments.run --config=configs/finetune.py --workdir=runs/finetune/tuned
    python -m experiments.run --config=configs/finetune.py:scratch --workdir=runs/finetune/scratch

Every size is pretrained once, on the packages that are installed here (pycode/environment). Runs on four small amounts of
the standard library (pycode/stdlib) begin with its parameters. The variant `scratch` trains the same sizes on the same and
on larger amounts, from fresh parameters. docs/finetuning.md says how to read the effective data transferred off the two,
and what to compare it with: D_T = k D_F^0.18 N^0.38 (Hernandez et al. 2102.01293, for Python from text).
`--config.optim.trainable=last:1` freezes all but the last layer and the readout, `head` all but the readout.

Cost: with `--config.widths='(16,32)'` 64 seconds of one core's processor time for each of the two (8 and 12 runs, 2.3e12
FLOPs of the models in all). As planned two CPU cores take about five minutes for both with width 64; 15 and 18 runs in 9
programs, 5.8e12 FLOPs.
Expect of these two widths (one seed; bits per byte): at every size and amount the fine-tuned run has the lower loss, and
the gap closes as the amount grows: width 16 has 2.77, 2.73, 2.70 and 2.66 on 65 to 524 thousand bytes, where runs from
scratch have 3.35, 3.07, 2.89 and 2.76; width 32 has 2.46, 2.42, 2.38 and 2.32 beside 3.20, 2.88, 2.62 and 2.43. Two
megabytes of other packages are worth 0.44 to 0.63 million bytes of the standard library to the small model and 0.40 to
0.43 to the other, so D_T hardly grows with D_F and does not grow with N here. Width 64 was not run.
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

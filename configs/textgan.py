"""Does a game sharpen a language model? Transformers that know Python play against a discriminator of what they write.

    python -m experiments.run --config=configs/textgan.py --workdir=runs/textgan/tuned
    python -m experiments.run --config=configs/textgan.py:scratch --workdir=runs/textgan/scratch
    python -m experiments.run --config=configs/textgan.py:quick --workdir=runs/textgan/quick        # or scratch-quick

Every size is trained once as a language model (`transformer`). The generators of its games begin with those parameters, by
the one line `start.takes = {"gen": "model"}`. A game with `likelihood=1` has the nats of the data beside it, and one with 0
is the game alone. The variant `scratch` plays from fresh parameters.

Every run writes 256 windows of 128 bytes, which the judge of text scores: BLEU against held-out text (quality), BLEU of the
samples against each other (self-BLEU; lower is more varied), the share of whole blocks that compile, and what is new or
copied. baselines.json has the same scores of held-out text. A language model at a lower temperature (`data.temperature`)
trades diversity for quality too, so that curve is what a game has to beat (Caccia et al. 2020, arXiv:1811.02549);
experiments/claims/curve.py makes that comparison.

Cost: 15 runs in 9 programs, 3.5e12 FLOPs of the models, which --dry_run takes for 20 minutes on two CPU cores (a guess). A
game of 65 thousand bytes costs about as much as a language model of half a million.
Expect (not run at this size yet): with the game alone bits per byte rise, and BLEU and self-BLEU rise together; with the
likelihood beside it bits per byte stay near those of the language model. From scratch, runs of this length write hardly any
whole block that compiles.
"""

from experiments._variants import kind_and_quick
from scaling import experiment
from scaling.experiment import chain, grid


def get_config(variant="tuned"):
    variant, quick = kind_and_quick("textgan", variant, ("tuned", "scratch"))
    config = experiment.config("textgan")
    config.title = "Language models that play against a discriminator of what they write"
    config.metric, config.beside, config.prompts, config.tune = "bleu", ("self_bleu", "bits_per_byte"), ("def ",), 0.0
    config.data.update({"samples": 256, "tokens": 65_536})
    config.optim.update({"learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.99, "weight_decay": 0.0, "clip": 0.0, "ema": 0.99})
    config.widths, config.likelihoods, config.seeds = (16, 32, 64), (0.0, 1.0), (0, 1)
    pretraining = experiment.config("transformer")
    pretraining.data.update({"tokens": 1_048_576, "samples": 256})
    pretraining.optim.update({"learning_rate": 1e-2})
    for each in (config, pretraining):
        each.family.update({"layers": 2, "head_dim": 16})
        each.data.update({"name": "pycode/stdlib", "length": 128, "batch": 8, "evaluation_tokens": 131_072})
        each.optim.update({"warmup": 20})
    if quick:
        config.widths, config.seeds, pretraining.data.tokens = (16, 32), (0,), 524_288
    if variant == "scratch":
        config.title = "The same games from fresh parameters"
        config.data.tokens = 131_072 if quick else 524_288
    else:
        config.start = {"experiment": pretraining, "takes": {"gen": "model"}}
    return config


def sweep(config):
    base, runs = experiment.from_config(config), []
    for width in config.widths:
        found = []
        for likelihood in config.likelihoods:
            sized = config.copy_and_resolve_references()
            sized.family.update({"width": width, "likelihood": likelihood})
            found.append(experiment.family_at(sized, config.family.size))
        sizes = {"family": found}
        if base.start:
            sized = config.start.experiment.copy_and_resolve_references()
            sized.family.width = width
            sizes["start.experiment.family"] = [experiment.family_at(sized, sized.family.size)]
        runs += grid(base, {**sizes, "seed": list(config.seeds)})
    return chain(runs)

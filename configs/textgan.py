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

Cost: of `:quick` 5 min 43 s of one core's processor time, two thirds of it compilation (4 games after 2 language models,
5.4e11 FLOPs of the models). Of the rest 15 runs in 9 programs, 3.5e12 FLOPs, not run yet. A game of 65 thousand bytes costs
about as much as a language model of half a million.
Expect of `:quick` (one seed; widths 16 and 32): the game alone undoes what the language model knew. Bits per byte rise from
3.03 to 3.32 and from 2.75 to 2.83, BLEU falls from 11.4 to 8.3 and from 12.6 to 11.9 (standard error 0.5), and self-BLEU
with it, from 12.2 to 9.0 and from 14.1 to 13.6: samples become more varied and no better. With the likelihood beside the
game bits per byte end at 3.01 and 2.73, just below where they began, with BLEU 10.6 and 12.1. N-grams that are counted on
the 65 thousand bytes of a game have BLEU 15.7, and held-out text 23.9. Samples have the indentation, the brackets and the
spaces of Python, some words ("self.assertEqual"), and no sense; 0 to 6% of windows have a whole block to compile.
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

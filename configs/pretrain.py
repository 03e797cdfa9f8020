"""How many labels does a pretrained encoder save? Encoders that learned masked Python tell the package of a function.

    python -m experiments.run --config=configs/pretrain.py --workdir=runs/pretrain/tuned
    python -m experiments.run --config=configs/pretrain.py:scratch --workdir=runs/pretrain/scratch
    python -m experiments.run --config=configs/pretrain.py:probe --workdir=runs/pretrain/probe --fork=runs/pretrain/tuned
    python -m experiments.run --config=configs/pretrain.py:control --workdir=runs/pretrain/control
    python -m experiments.run --config=configs/pretrain.py:quick --workdir=runs/pretrain/quick    # or scratch-quick, ...

Every size is pretrained once on the text of the standard library (pycode/stdlib), with 15% of the bytes masked. Runs on
8 to 16,384 of 20 thousand functions with their package (packages, 16 classes) begin with its embeddings, layers and last
norm, and see each function eight times, so that D is eight times the number of labels. The variant `scratch` trains the
same sizes from fresh parameters. `probe` trains a linear head on the frozen layers, and its `control` on layers that
learned nothing.
`--config.optim.trainable=last:1` trains the last layer and the head.

    from scaling import laws
    scratch, tuned = (laws.Runs.from_workdir(f"runs/pretrain/{name}", "loss") for name in ("scratch", "tuned"))
    print(laws.effective_data(scratch, tuned))  # D_T / 8 is the number of labels that pretraining is worth

The pretraining text holds the functions of the evaluation set too, without their labels; from other text the saving may be
smaller.

Cost: of `:quick` 3 min 13 s of one core's processor time (6 runs after 2 of pretraining, 1.9e12 FLOPs of the models), and
of `:scratch-quick` 91 s. Of all four in full two CPU cores and about an hour, at the speed of the quickstart (planned);
15 runs each and 3 of pretraining, 7.3e13 FLOPs of the models.
Expect of `:quick` beside `:scratch-quick` (one seed; widths 16 and 32, a megabyte of pretraining): 2.31 and 2.26 nats on
64 labels, where runs from scratch have 2.47 and 2.36; on 512 labels 2.34 and 2.47 beside 2.26 and 2.45; on 4,096 labels
2.15 and 2.18 beside 2.15 and 2.19. So little pretraining helps where labels are fewest, as the claim `pretraining` found,
and nowhere else. Accuracies are 34 to 43%, guessing has 37%, and their standard errors are 5 to 8 points, because files
are held out whole. 512 labels, seen eight times, are worse than 64 in the pretrained runs, which may know their labels by
heart.
Expect of the rest (not run yet): the probe lies between its control and the fine-tuned runs, and is nearest to these with
few labels. A run on 8 labels has one draw of them, so its score is a rough one.
"""

from experiments._variants import kind_and_quick
from scaling import experiment
from scaling.experiment import chain, grid

TAKEN = ("embed", "layers", "norm")  # what a model of masked tokens and one of classes share
TITLES = {"tuned": "Encoders of masked Python tell the package of a function",
          "scratch": "The same encoders from fresh parameters", "probe": "Linear probes of pretrained encoders",
          "control": "Linear probes of encoders that learned nothing"}
RATES = {"tuned": 2e-3, "scratch": 4e-3, "probe": 1e-2, "control": 1e-2}


def get_config(variant="tuned"):
    variant, quick = kind_and_quick("pretrain", variant, tuple(TITLES))
    config = experiment.config("masked", "labelled")
    config.title = TITLES[variant]
    config.metric, config.tune = "loss", 0.0
    config.widths = (16, 32, 64)
    config.labels, config.epochs = (8, 64, 512, 4096, 16_384), 8
    config.data.update({"length": 128, "batch": 8, "evaluation_examples": 0})
    pretraining = experiment.config("masked")
    pretraining.data.update({"length": 128, "batch": 16, "tokens": 8_388_608, "evaluation_tokens": 131_072})
    if quick:
        config.widths, config.labels, pretraining.data.tokens = (16, 32), (64, 512, 4096), 1_048_576
    for each, rate, warmup in ((config, RATES[variant], 4), (pretraining, 4e-3, 100)):
        each.family.update({"layers": 2, "head_dim": 16})
        each.optim.update({"warmup": warmup, "learning_rate": rate})
    if variant in ("tuned", "probe"):
        takes = tuple((f"model/{name}", f"model/{name}") for name in TAKEN)
        config.start = {"experiment": pretraining, "takes": takes}
    if variant in ("probe", "control"):
        config.optim.trainable = "head"
    return config


def sweep(config):
    base, runs = experiment.from_config(config), []
    for width in config.widths:
        sized = config.copy_and_resolve_references()
        sized.family.width = width
        changes = {"family": [experiment.family_at(sized, config.family.size)]}
        if base.start:
            sized.start.experiment.family.width = width
            changes["start.experiment.family"] = [experiment.family_at(sized.start.experiment, config.family.size)]
        for labels in config.labels:
            runs += grid(base, {**changes, "data.unique_examples": [labels], "data.examples": [config.epochs * labels]})
    return chain(runs)

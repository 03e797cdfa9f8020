"""The last quarter of the layers is enough: fine-tuning it gives nine tenths of the quality of fine-tuning all of them."""

import numpy as np

from experiments.claims import _encoders
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

# width, layers, bytes of pretraining, labels, seeds
SIZES = {"5m": (32, 4, 1_048_576, 512, 4), "30m": (48, 8, 4_194_304, 4096, 5),
         "2h": (64, 8, 12_582_912, 8192, 6), "gpu": (256, 12, 25_165_824, 16_384, 8)}
WHOLE, HEAD = "all", "head"
START = "start.fingerprint"


def quarters(layers: int) -> list[str]:
    """What trains: the head alone, the last quarter of the layers, half of them, and all."""
    return [HEAD, f"last:{layers // 4}", f"last:{layers // 2}", WHOLE]


def parts(budget):
    width, layers, tokens, labels, seeds = SIZES[budget]
    runs = []
    for seed in range(seeds):
        base = _encoders.pretrained(width, tokens, seed, layers)
        runs += [_encoders.classifier(width, labels, seed=seed, layers=layers, base=base, trainable=trainable)
                 for trainable in quarters(layers)]
        runs.append(_encoders.classifier(width, labels, seed=seed, layers=layers))
    return {"labels": Part(runs, "loss")}


def analyse(name: str, part: Trained) -> Finding:
    del name
    return judge(part.runs.assign(trains=part.runs["optim.trainable"].where(part.runs[START].notna(), "scratch")))


def judge(runs) -> Finding:
    """runs: a row for each run, with its seed, accuracy, family.layers, and `trains`: one of `quarters`, or "scratch"."""
    layers = int(runs["family.layers"].iloc[0])
    steps = quarters(layers)
    table = runs.pivot_table(index="seed", columns="trains", values="accuracy")
    kept = (table[steps[1]] / table[WHOLE]).dropna()
    gained = (table[WHOLE] - table["scratch"]).dropna()
    means = table.mean()
    shares = [0.0, 0.25, 0.5, 1.0]
    panel = Panel("share of the layers that trains", "accuracy", log_x=False, lines=[
        Line("pretrained", shares, [means[step] for step in steps]),
        Line("from scratch", [0.0, 1.0], [means["scratch"]] * 2, dots=False)])
    said = (f"The accuracy is {means['scratch']:.1%} from scratch and, begun with a pretrained encoder, "
            f"{means[HEAD]:.1%} where the head trains, {means[steps[1]]:.1%} with the last quarter of the layers, "
            f"{means[steps[2]]:.1%} with half of them and {means[WHOLE]:.1%} with all.")
    return Finding({"kept": statistics.mean(np.log(kept)), "gain": statistics.mean(gained)}, panel, said)


CLAIM = Claim(
    id="frozen",
    statement="Fine-tuning the last quarter of the layers gives nine tenths of the quality of fine-tuning all.",
    source="Lee, Tang & Lin 2019, arXiv:1911.03090, abstract and section 4 (BERT and RoBERTa, GLUE)",
    published={"labels": "the last quarter gives 90% of the score of the whole"},
    rules={"kept": Criterion("the log of the accuracy with the last quarter over that with all layers", float(np.log(0.9)),
                             why="The published share is 90%; its logarithm is -0.105."),
           "gain": Criterion("what fine-tuning all layers adds to the accuracy from scratch", low=0.0,
                             why="Where pretraining brings nothing, which layers keep it says nothing.")},
    parts=parts, analyse=analyse,
    cost={"5m": "20 runs on 512 labels, of which 16 begin with 4 encoders of 4 layers",
          "30m": "25 runs on 4096 labels, of which 20 begin with 5 encoders of 8 layers (not timed)",
          "2h": "30 runs on 8192 labels, of which 24 begin with 6 encoders of 0.4 million parameters (not timed)",
          "gpu": "40 runs on 16,384 labels, of which 32 begin with 8 encoders of 9 million parameters (not timed)"},
    more="Partly frozen encoders have the learning rate of whole ones, and heads alone have another; neither was tuned. "
         "The source's scores are ratios of a metric whose chance level is not subtracted, and so is this one.")

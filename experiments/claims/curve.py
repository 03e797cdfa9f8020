"""A GAN of text is no better than the language model that it begins with, sampled at a lower temperature."""

import functools

import jax
import numpy as np
import pandas as pd

from experiments.claims import _recipes, _scores
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics
from scaling.experiment import Experiment, Optim, Start
from scaling.families.textgan import TextGAN

# width, bytes of the language model and of the game, seeds
SIZES = {"5m": (32, 262_144, 32_768, 3), "30m": (48, 1_048_576, 131_072, 5),
         "2h": (64, 4_194_304, 524_288, 5), "gpu": (256, 33_554_432, 4_194_304, 8)}
GAMES = {"game": 0.0, "mixed": 1.0}  # the weight of the likelihood beside the game
TEMPERATURES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
SAMPLES, LENGTH, RATE = 256, 64, 1e-3
MODEL, AHEAD = "model", 1.0


def parts(budget):
    width, tokens, played, seeds = SIZES[budget]
    runs = []
    for seed in range(seeds):
        model = _recipes.transformer(width, tokens, seed, **{"data.samples": SAMPLES, "data.sample_length": LENGTH})
        runs += [model, *(game(model, likelihood, played) for likelihood in GAMES.values())]
    return {"text": Part(runs, "bits_per_byte")}


def game(model: Experiment, likelihood: float, tokens: int) -> Experiment:
    """The game that begins with a language model, on so many bytes of its data."""
    f, batch = model.family, 8
    family = TextGAN(vocab=f.vocab, length=f.length, width=f.width, layers=f.layers, heads=f.heads, head_dim=f.head_dim,
                     likelihood=likelihood)
    optim = Optim(learning_rate=RATE, beta1=0.0, beta2=0.99, weight_decay=0.0, clip=0.0, warmup=10, ema=0.99)
    played = Experiment(family=family, data=model.data, optim=optim, seed=model.seed)
    return played.replace({"data.batch": batch, "data.tokens": tokens // (batch * f.length) * batch * f.length,
                           "start": Start(model, {"gen": "model"})})


def analyse(name: str, part: Trained) -> Finding:
    del name
    rows = []
    for run in _scores.restored(part):
        kind = next((kind for kind, weight in GAMES.items() if getattr(run.family, "likelihood", None) == weight), MODEL)
        rows += [{"seed": run.experiment.seed, "kind": kind, "temperature": t, **scores_at(run, t)} for t in TEMPERATURES]
    return judge(pd.DataFrame(rows))


def scores_at(run, temperature: float) -> dict[str, float]:
    """BLEU and self-BLEU of the windows that a restored run writes at a temperature."""
    windows = _scores.held_out(run, SAMPLES * run.family.length)
    draw = jax.jit(functools.partial(run.family.sample, temperature=temperature, length=LENGTH))
    batch = {"tokens": windows, "example": np.arange(len(windows), dtype=np.int32)}
    found = run.runner.judge(run.experiment)(np.asarray(draw(run.params, batch, jax.random.key(1))))
    return {name: found[name] for name in ("bleu", "self_bleu")}


def ahead(points: pd.DataFrame, curve: pd.DataFrame) -> float:
    """The most by which the BLEU of a point exceeds that of the curve at equal self-BLEU, over some points.

    Between temperatures the curve is a line. Beyond its ends it is taken for flat: who varies less than the coldest samples
    is compared with those.
    """
    known = curve.sort_values("self_bleu")
    return float((points["bleu"] - np.interp(points["self_bleu"], known["self_bleu"], known["bleu"])).max())


def judge(points: pd.DataFrame) -> Finding:
    """points: one row for each run and temperature, with its seed, kind, temperature, BLEU and self-BLEU.

    A game is judged at the temperature 1, at which it was trained; at others its points are drawn alone.
    """
    excess: dict[str, list[float]] = {kind: [] for kind in GAMES}
    for _, own in points.groupby("seed"):
        curve = own[own["kind"] == MODEL]
        for kind, found in excess.items():
            found.append(ahead(own[(own["kind"] == kind) & (own["temperature"] == 1.0)], curve))
    means = points.groupby(["kind", "temperature"])[["self_bleu", "bleu"]].mean()
    lines = [Line(kind, list(means.loc[kind]["self_bleu"]), list(means.loc[kind]["bleu"])) for kind in (MODEL, *GAMES)]
    said = f"Lines are models at temperatures from {min(TEMPERATURES)} to {max(TEMPERATURES)}; games are judged at 1. "
    said += "At equal self-BLEU, BLEU against held-out text differs from that of the language model by " + ", ".join(
        f"{np.mean(found):+.1f} ({kind})" for kind, found in excess.items()) + "."
    return Finding({kind: statistics.mean(found) for kind, found in excess.items()},
                   Panel("self-BLEU (lower is more varied)", "BLEU against held-out text", lines, log_x=False), said)


WHY = "The claim is that no point lies above the curve; one point of BLEU, of 100, is left for the noise of 128 samples."
CLAIM = Claim(
    id="curve", statement="No GAN of text lies above the temperature curve of a language model.",
    source="Caccia et al. 2020, arXiv:1811.02549, section 5 and figure 3 (negative BLEU-5 against self-BLEU-5)",
    published={"": "every GAN below the curve of maximum likelihood; no number"},
    rules={"game": Criterion("the BLEU of the game alone less that of the language model at equal self-BLEU", high=AHEAD,
                             why=WHY),
           "mixed": Criterion("the same, for the game with the likelihood of the data beside it", high=AHEAD, why=WHY)},
    parts=parts, analyse=analyse,
    cost={"5m": "3 language models of 12 thousand parameters, and 2 games that begin with each",
          "30m": "5 language models of 28 thousand parameters, and 2 games that begin with each (not timed)",
          "2h": "5 language models of 49 thousand parameters, and 2 games that begin with each (not timed)",
          "gpu": "8 language models of 0.8 million parameters, and 2 games that begin with each (not timed)"},
    more="The games begin with the language model and have one learning rate. Longer games, larger discriminators or tuned "
         "rates could lift them. BLEU sees four words in a row, and no meaning.")

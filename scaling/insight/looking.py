"""What `tools.probe` measures of runs, as one dict of plain numbers, from which its page and its JSON are made.

Probes and induction are measured of every run, so that they can be compared by size, layer and moment of training. Heads,
lens, autoencoders and attributions are shown of one of them, the largest with the most data.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from scaling import families
from scaling.insight import autoencoder, induction
from scaling.insight.activations import (
    InsightError,
    language_network,
    predicts_next,
    read_activations,
    read_places,
    refuse,
    tapped_forward,
)
from scaling.insight.attribution import attribute_next_token
from scaling.insight.factors import known_factors
from scaling.insight.lens import read_lens
from scaling.insight.probes import LEVEL, group_interval, score_probe
from scaling.results import tuned
from scaling.study import kept
from scaling.study.prompts import encode_prompt

PARTS = ("probes", "induction", "lens", "prompt", "autoencoders")
WINDOWS = 64  # of evaluation text that lens and autoencoders read
MULTIPLES = (1, 2, 4, 8)  # latents of autoencoders, in widths
IMAGES = 1024  # that autoencoders read


def look_into(runs: Sequence, parts=PARTS, prompt: str = "") -> dict:
    """Everything that is measured of restored runs, in the order of size and data.

    {"runs": rows, "probes": rows, "induction": rows, "lens": rows, "autoencoders": rows, "prompt": {...}, "left_out":
    sentences}. A part that the runs cannot give is empty, and a sentence says why.
    """
    runs = sorted(runs, key=lambda run: (run.record[tuned.PARAMS], _seen(run), run.fingerprint))
    shown = runs[-1]
    found = {"runs": [about(run) for run in runs], "shown": shown.fingerprint, "level": LEVEL, "left_out": []}
    ways = {"probes": lambda: [row for run in runs for row in probe_rows(run)],
            "induction": lambda: [row for run in runs for row in induction_rows(run)],
            "lens": lambda: [row for run in runs for row in lens_rows(run)],
            "prompt": lambda: look_at_prompt(shown, prompt), "autoencoders": lambda: autoencoder_rows(shown)}
    for name, way in ways.items():
        found[name] = {} if name == "prompt" else []
        try:
            found[name] = way() if name in parts else found[name]
        except InsightError as error:
            found["left_out"].append(f"{name}: {error}")
    return found


def about(run) -> dict:
    """What a run is: its name, size N, data D, layers and loss."""
    step = run.experiment.steps if run.step is None else run.step
    seen = _seen(run) * step / run.experiment.steps
    return {"run": run.fingerprint, "family": families.name(run.family), "N": run.record[tuned.PARAMS], "D": float(seen),
            "step": int(step), "layers": getattr(run.family, "layers", None), "width": getattr(run.family, "width", None),
            "seed": run.experiment.seed}


def _seen(run) -> float:
    """The data D that a run was trained on, in the units of its kind of data."""
    return float(getattr(run.experiment.data, run.experiment.data.length_knob.removeprefix("data.")))


def probe_rows(run) -> list[dict]:
    """A row for each factor and layer; layer 0 is the input of the first."""
    table, rows = known_factors(run), []
    for factor, (labels, names) in table.factors.items():
        for layer, features in enumerate(table.features):
            score = score_probe(features, labels, table.groups, table.types, table.test)
            rows.append(about(run) | {"factor": factor, "classes": len(names), "layer": layer, "examples": len(labels),
                                      "selectivity": score.selectivity} | score._asdict())
    return rows


def induction_rows(run) -> list[dict]:
    """A row for each step of which weights are kept, the last one included."""
    if not predicts_next(run.family):
        refuse(run, "does not predict the next token, which induction is about")
    known = induction.common_tokens(_evaluation_batch(run)["tokens"])
    steps = sorted({each.step for each in kept.kept_of(run)})
    rows = []
    for each in [*(kept.at_step(run, step) for step in steps), run]:
        score = induction.score_induction(each, known)
        rows.append(about(each) | {"final": each is run, "heads": score.heads.tolist(), "strongest": score.strongest,
                                   "chance": score.chance, "gain": score.gain, "low": score.low, "high": score.high})
    return rows


def lens_rows(run) -> list[dict]:
    """A row for each layer: nats from the final prediction, loss in nats, and how often the likeliest token is final."""
    language_network(run)
    batch = _evaluation_batch(run)
    tokens = batch["tokens"]
    groups, read, rows = batch.get("document", np.arange(len(tokens))), read_lens(run, tokens), []
    nats, agrees, rng = read.nats(tokens[:, 1:]), read.agrees, np.random.default_rng(0)
    for layer, kl in enumerate(read.kl.mean(-1)):
        low, high = group_interval(kl, groups, rng)
        rows.append(about(run) | {"layer": layer, "kl": float(kl.mean()), "low": low, "high": high,
                                  "nats": float(nats[layer].mean()), "agrees": float(agrees[layer].mean())})
    return rows


def look_at_prompt(run, prompt: str, top: int = 3) -> dict:
    """What a run makes of one text: tokens, attention, the lens at each place, and what its next token rests on."""
    language_network(run)
    try:
        tokens = np.concatenate([[0], encode_prompt(prompt, run.tokenizer)]).astype(np.int32)
    except ValueError as error:
        raise InsightError(str(error)) from None
    if not 2 <= len(tokens) <= run.family.length:
        raise InsightError(f"the prompt has {len(tokens) - 1} tokens; write 1 to {run.family.length - 1}, as long as the "
                           f"windows that run {run.fingerprint} was trained on allow")
    batch = {"tokens": np.append(tokens, 0)[None].astype(np.int32)}
    read, lens = read_activations(run, batch, ("attention",)), read_lens(run, batch["tokens"])
    shares = np.exp(lens.logits - np.logaddexp.reduce(lens.logits, axis=-1, keepdims=True))[:, 0]
    best = np.argsort(-shares, axis=-1)[..., :top]
    attributed, target = attribute_next_token(run, tokens)
    said = [run.tokenizer.decode([token]) for token in range(run.tokenizer.vocab)]
    return {"run": run.fingerprint, "text": prompt, "tokens": [said[token] for token in tokens],
            "attention": [weights[0].tolist() for weights in read.attention],
            "likeliest": [[[said[token] for token in place] for place in layer] for layer in best],
            "shares": np.take_along_axis(shares, best, -1).tolist(), "kl": lens.kl[:, 0].tolist(),
            "attribution": {"target": said[target], "values": attributed.values.tolist(), "output": attributed.output,
                            "baseline": attributed.baseline, "gap": attributed.gap, "steps": attributed.steps,
                            "complete": attributed.complete}}


def autoencoder_rows(run, seeds=(0, 1), multiples=MULTIPLES) -> list[dict]:
    """A row for each number of latents, seed and quarter of training, of autoencoders of the middle layer's output.

    At the end, of a language model also "nats", the loss where the reconstruction replaces the activations, beside the loss
    with the activations themselves, "nats_clean", and with their mean, "nats_mean".
    """
    text, batch = predicts_next(run.family), _evaluation_batch(run)
    residual = read_activations(run, batch).residual
    if not residual:
        refuse(run, "has no layers whose activations an autoencoder could explain")
    layer = max(1, len(residual) // 2)
    held = len(residual[layer]) // 4
    cut = 3 * held
    x, kept_out = (read_places({name: values[part] for name, values in batch.items()}, residual[layer][part])
                   for part in (slice(cut), slice(cut, None)))
    tokens, rows = batch["tokens"][-held:] if text else None, []
    middle = x.mean(0)
    known = {} if not text else {"nats_clean": _spliced(run, tokens, layer, lambda y: y),
                                 "nats_mean": _spliced(run, tokens, layer, lambda y: jnp.broadcast_to(middle, y.shape))}
    for latents in (multiple * x.shape[1] for multiple in multiples):
        for seed in seeds:
            fits = autoencoder.train_autoencoder(x, kept_out, latents, seed=seed)
            nats = {"nats": _spliced(run, tokens, layer, fits[-1].reconstruct)} if text else {}
            rows += [{"run": run.fingerprint, "layer": layer, "latents": latents, "k": fit.k, "steps": fit.steps,
                      "error": fit.error, "dead": fit.dead, "flops": fit.flops, "seed": seed, "activations": len(x)}
                     | (known | nats if fit is fits[-1] else {}) for fit in fits]
    return rows


def _spliced(run, tokens, layer: int, change) -> float:
    """The mean nats of tokens [B, S+1] where `change` replaces the residual stream after a layer."""
    forward = tapped_forward(run.family, {("residual", layer): lambda x: change(x).astype(x.dtype)})
    nats = jax.jit(lambda params, batch: -jnp.take_along_axis(
        jax.nn.log_softmax(forward(params, batch)[0]), batch["tokens"][:, 1:, None], -1).mean())
    return float(nats(run.params, {"tokens": jnp.asarray(tokens)}))


def _evaluation_batch(run) -> dict:
    """The first windows or images of the first evaluation split."""
    found = next(iter(run.runner.evaluation(run.experiment).values()))
    most = WINDOWS if "tokens" in found else IMAGES
    found = {name: np.asarray(x)[:most] for name, x in found.items()}
    return found | {"example": np.arange(len(next(iter(found.values()))), dtype=np.int32)}

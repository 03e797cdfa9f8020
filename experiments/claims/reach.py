"""Attention captures long range: distant context saves bits, more so in larger models, and copying takes two layers."""

import functools

import numpy as np
import pandas as pd

from experiments.claims import _recipes, _scores
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

LENGTH, TAIL = 256, 32  # bytes of a window, and those at its end that are scored
CONTEXTS, SHORT = (16, 32, 64, 128, LENGTH - TAIL), 32  # least context of the scored bytes; what counts as near
TOKENS = 65_536  # that are evaluated
COPIES = "repeats:8"  # the data of induction
WIDE, WIDTH = 48, 32  # of one layer, and of two layers that have about as many parameters
# widths and tokens of text, tokens of induction, seeds of both
SIZES = {"5m": ((16, 32, 64), 524_288, 1_048_576, 4), "30m": ((16, 32, 64, 112), 2_097_152, 4_194_304, 5),
         "2h": ((16, 32, 64, 128), 8_388_608, 16_777_216, 5), "gpu": ((32, 64, 128, 256, 512), 25_165_824, 67_108_864, 8)}


def parts(budget):
    widths, tokens, copied, seeds = SIZES[budget]
    text = [_recipes.transformer(width, tokens, seed, layers=2, length=LENGTH)
            for width in widths for seed in range(seeds)]
    copies = [_recipes.transformer(width, copied, seed, layers=layers, data=COPIES, length=64,
                                   **{"data.evaluation_tokens": 32_768})
              for layers, width in ((1, WIDE), (2, WIDTH)) for seed in range(seeds)]
    return {"transformer": Part(text, "bits_per_byte"), "induction": Part(copies, "excess")}


def analyse(name: str, part: Trained) -> Finding:
    if name == "induction":
        return judge_induction(part.runs)
    runs = _scores.restored(part)
    windows = _scores.held_out(runs[0], TOKENS)
    rows = [{"context": context, "bits": bits, "width": record["family.width"], "seed": record["seed"],
             "params": record["params_non_embedding"]}
            for run, (_, record) in zip(runs, part.runs.iterrows(), strict=True)
            for context, bits in _scores.bits_by_context(functools.partial(_scores.token_nats, run), windows, CONTEXTS,
                                                         TAIL).items()]
    return judge_reach(pd.DataFrame(rows))


def judge_reach(table) -> Finding:
    """table: bits by context, a row for each run and context."""
    wide = table.pivot_table(index=["params", "width", "seed"], columns="context", values="bits")
    saved = np.log(wide[SHORT]) - np.log(wide[CONTEXTS[-1]])
    widths = sorted(table["width"].unique())
    by_width = {width: saved.xs(width, level="width").droplevel("params") for width in widths}
    more = (by_width[widths[-1]] - by_width[widths[0]]).dropna()
    means = wide.groupby("width").mean()
    panel = Panel("bytes of context", "bits per byte", log_y=True, labels="width", lines=[
        Line(f"{width:g}", list(means.columns), list(means.loc[width])) for width in widths])
    said = "Context beyond 32 bytes saves " + ", ".join(
        f"{by_width[width].mean():.1%} at width {width:g}" for width in widths) + " of the loss."
    return Finding({"far": statistics.mean(by_width[widths[-1]].to_numpy()), "grows": statistics.mean(more.to_numpy())},
                   panel, said)


def judge_induction(runs) -> Finding:
    """runs: the records, with the bits per token beyond the entropy of strings that repeat."""
    left = statistics.paired(runs, "excess", "family.layers", 1, 2, ["seed"])
    lines = []
    for layers, some in runs.groupby("family.layers"):
        some = some.sort_values("seed")
        lines.append(Line(f"{layers:g}", list(some["seed"] + 1), list(some["excess"])))
    means = runs.groupby("family.layers")["excess"].mean()
    said = (f"Two layers leave {means[2]:.2f} bits per token beyond the entropy, one layer of about as many "
            f"parameters leaves {means[1]:.2f}. The strings are new in every window, so only copying predicts them.")
    panel = Panel("run", "excess loss (bits)", lines, log_x=False, log_y=True, labels="layers")
    return Finding({"layers": left}, panel, said)


CLAIM = Claim(
    id="reach",
    statement="Attention captures long range, more so in larger models, and copying from context takes two layers.",
    source="Kaplan et al. 2020, arXiv:2001.08361, section 3.2.1 and appendix D.5 (loss by position); Olsson et al. 2022, "
           "arXiv:2209.11895 (induction heads)",
    published={"transformer": "larger models gain more from later positions",
               "induction": "one layer forms no induction heads, two layers do, in a phase change"},
    rules={"far": Criterion("the fall of the log loss from 32 bytes of context to 224, in the largest model", low=0.01,
                            why="One percent of the loss is about what a tenth of the data is worth at this scale."),
           "grows": Criterion("how much larger this fall is in the largest model than in the smallest", low=0.0,
                              why="A larger model should gain more."),
           "layers": Criterion("the log of the excess loss of two layers over that of one", high=-0.69,
                               why="Copying is learned where less than half of the excess is left.")},
    parts=parts, analyse=analyse,
    cost={"5m": "12 runs on code, 8 runs on strings that repeat", "30m": "20 runs on code, 10 on strings that repeat",
          "2h": "20 runs on code, 10 on strings, longer ones", "gpu": "40 runs on code, 16 on strings"},
    more="Distant context is worth more in longer documents and after longer training. Copying is learned in a phase "
         "change, so that shorter runs would show none. One layer can learn which tokens a string has, not their order.")

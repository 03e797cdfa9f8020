"""The figures of the page of `tools.probe`, drawn from what `scaling.insight.looking` measured."""

from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scaling.figures import words
from scaling.figures.palette import Palette
from scaling.figures.plot import DOT, HUES, dress, finish, panels
from scaling.report.plots import PlannedFigure

MOST_HEADS, MOST_LAYERS, LAST_TOKENS = 8, 6, 40  # that maps of attention show


def insight_palette(found: dict) -> Palette:
    """One colour for each size of the runs."""
    return Palette({row["N"] for row in found["runs"]}, {row["D"] for row in found["runs"]})


def insight_figures(found: dict, palette: Palette) -> dict[str, PlannedFigure]:
    """{name: figure} of the parts that were measured, for `scaling.report.plots.draw_all`."""
    level = words.percent(found["level"])
    planned = {}
    if found["probes"]:
        planned["probes"] = PlannedFigure(
            lambda: draw_probes(final_rows(found["probes"]), palette), "Accuracy of linear probes by layer",
            f"Held-out accuracy of linear probes after each layer, with {level} intervals over documents or images, a line "
            "for each size. Grey: the most frequent class. Layer 0 is the input of the first layer.")
    if found["induction"]:
        planned["induction"] = PlannedFigure(
            lambda: draw_induction(found["induction"], palette), "Induction against training",
            "Tokens in random order, said twice, against the data seen, a line for each shape and seed. Left: the weight "
            "of the best head on the token after the last occurrence; grey is attention alike to all. Right: nats per "
            f"token that the second half is easier than the first, with {level} intervals. Open: before the cooldown.")
    if found["lens"]:
        planned["lens"] = PlannedFigure(
            lambda: draw_lens(final_rows(found["lens"]), palette), "Logit lens by layer",
            f"Left: nats from the final prediction to that of each layer, with {level} intervals over documents. Right: "
            "how often the likeliest token is already the final one.")
    if found["autoencoders"]:
        rows = found["autoencoders"]
        planned["autoencoders"] = PlannedFigure(
            lambda: draw_autoencoders(rows, palette), "Error of sparse autoencoders",
            f"Autoencoders that use {rows[0]['k']} directions at once, of layer {rows[0]['layer']}: the squared error over "
            "that of always saying the mean. Left: against all directions, a dot for each seed. Right: during training, "
            "against compute.")
    prompt = found["prompt"]
    if prompt:
        planned["attribution"] = PlannedFigure(
            lambda: draw_attribution(prompt, palette), "Integrated gradients of the next token",
            f"What each token adds to the log-odds of {prompt['attribution']['target']!r} as the next one, against a text "
            "of ends of documents.")
        if prompt["attention"]:
            planned["attention"] = PlannedFigure(
                lambda: draw_attention(prompt, palette), "Attention maps",
                f"The weights of attention on the last {LAST_TOKENS} tokens of the prompt: a row for each layer, a column "
                "for each head. Queries go down, keys to the right; darker is more.")
    return planned


def final_rows(rows: Iterable[dict]) -> list[dict]:
    """The rows of the run of each shape and seed that was trained on the most data."""
    last = {}
    for row in rows:
        last[_shape(row)] = max(row["D"], last.get(_shape(row), 0))
    return [row for row in rows if row["D"] == last[_shape(row)]]


def _shape(row):
    return row["N"], row["layers"], row["width"], row["seed"]


def draw_probes(rows: list[dict], palette: Palette) -> Figure:
    """A panel for each factor: accuracy against the layer, a line for each run."""
    factors = list(dict.fromkeys(row["factor"] for row in rows))
    columns = min(2, len(factors))
    figure, axes = panels(-(-len(factors) // columns), columns)
    for place, panel in enumerate(axes.flat):
        if place >= len(factors):
            panel.set_axis_off()
            continue
        own, ends = [row for row in rows if row["factor"] == factors[place]], []
        dress(panel, "layer", f"accuracy: {factors[place]}", "N", log_x=False)
        panel.axhline(own[0]["majority"], color=palette.muted, linestyle=(0, (1, 2)))
        for number, line in enumerate(_lines(own)):
            _barred(panel, line, "accuracy", palette, number)
            ends.append((line[-1]["accuracy"], words.count(line[-1]["N"]), palette.size(line[-1]["N"])))
        finish(panel, ends, log_y=False)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def draw_induction(rows: list[dict], palette: Palette) -> Figure:
    """The strongest head, and the copying gain, against the data seen."""
    figure, axes = panels(1, 2)
    headed = [row for row in rows if row["heads"]]
    for panel, column, title in ((axes[0, 0], "strongest", "best head's induction score"),
                                 (axes[0, 1], "gain", "copying gain, nats per token")):
        dress(panel, "D, tokens seen", title, "layers × width")
        ends = []
        for line in _lines(headed if column == "strongest" else rows, key=lambda row: _shape(row), by="D"):
            colour = palette.size(line[-1]["N"])
            final = [row for row in line if row["final"]]
            for row in final if column == "gain" else ():
                panel.plot([row["D"]] * 2, [row["low"], row["high"]], color=colour, linewidth=1)
            panel.plot([row["D"] for row in final], [row[column] for row in final], color=colour)
            for row in line:
                panel.plot(row["D"], row[column], **DOT | {"markeredgecolor": colour}, color=colour,
                           markerfacecolor=colour if row["final"] else palette.paper)
            ends.append((final[-1][column], f"{line[-1]['layers']} × {line[-1]['width']}", colour))
        if column == "strongest" and headed:
            panel.axhline(headed[0]["chance"], color=palette.muted, linestyle=(0, (1, 2)))
        finish(panel, ends, ticks=words.count, log_y=False)
    return figure


def draw_lens(rows: list[dict], palette: Palette) -> Figure:
    """Nats from the final prediction, and agreement with it, by layer."""
    figure, axes = panels(1, 2)
    for panel, column, title in ((axes[0, 0], "kl", "nats from the final prediction"),
                                 (axes[0, 1], "agrees", "likeliest token is the final one")):
        dress(panel, "layer", title, "N" if column == "kl" else "", log_x=False)
        for place, line in enumerate(_lines(rows)):
            colour = palette.size(line[0]["N"])
            if column == "kl":
                _barred(panel, line, "kl", palette, place)
                panel.annotate(words.count(line[0]["N"]), (1, 1 - 0.075 * place), xycoords="axes fraction", ha="right",
                               va="top", color=colour)
            else:
                panel.plot([row["layer"] for row in line], [row[column] for row in line], "o-", color=colour)
        finish(panel, log_y=False)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def draw_autoencoders(rows: list[dict], palette: Palette) -> Figure:
    """The error against latents at the end of training, and against the compute of training."""
    figure, axes = panels(1, 2)
    last = [row for row in rows if row["steps"] == max(each["steps"] for each in rows)]
    left, right = axes[0]
    dress(left, "directions", "normalised squared error")
    left.plot([row["latents"] for row in last], [row["error"] for row in last], **DOT, color=palette.accent)
    dress(right, "FLOPs of training", "normalised squared error", "directions")
    ends, hues = [], dict(zip(sorted({row["latents"] for row in rows}), HUES, strict=False))
    for line in _lines(rows, key=lambda row: (row["latents"], row["seed"]), by="flops"):
        colour = hues[line[0]["latents"]]
        right.plot([row["flops"] for row in line], [row["error"] for row in line], "o-", color=colour)
        if line[0]["seed"] == rows[0]["seed"]:
            ends.append((line[-1]["error"], words.count(line[0]["latents"]), colour))
    for panel, ticks, labels in ((left, words.amount, []), (right, words.compact_power, ends)):
        panel.set_yscale("log")
        finish(panel, labels, ticks=ticks)
    return figure


def draw_attribution(prompt: dict, palette: Palette) -> Figure:
    """A bar for each token of the prompt, the end of the document before it first."""
    values = prompt["attribution"]["values"]
    names = [shown_token(token) for token in prompt["tokens"]]
    figure, axes = panels(1, 1, width=max(5.2, 0.17 * len(values) + 1), height=2.8)
    panel = dress(axes[0, 0], "tokens read", f"log-odds of {shown_token(prompt['attribution']['target'])!r}", log_x=False)
    panel.bar(range(len(values)), values, color=[palette.accent if value < 0 else HUES[0] for value in values])
    panel.axhline(0, color=palette.muted, linewidth=0.8)
    panel.set_xticks(range(len(values)), names, fontfamily="DejaVu Sans Mono", fontsize=9)
    panel.tick_params(axis="x", length=0)
    panel.margins(x=0.01)
    return figure


def draw_attention(prompt: dict, palette: Palette) -> Figure:
    """Maps of attention, a row for each layer and a column for each head."""
    maps = [np.array(layer)[:MOST_HEADS, -LAST_TOKENS:, -LAST_TOKENS:] for layer in prompt["attention"][:MOST_LAYERS]]
    figure, axes = panels(len(maps), len(maps[0]), width=1.7, height=1.75)
    for layer, heads in enumerate(maps):
        for head, weights in enumerate(heads):
            panel = axes[layer, head]
            shown = np.ma.masked_array(weights, weights == 0)
            panel.imshow(shown, cmap="YlGnBu", vmin=0, vmax=1, interpolation="nearest")
            panel.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=8, color=palette.muted)
            panel.set_xticks([])
            panel.set_yticks([])
            for spine in panel.spines.values():
                spine.set_color(palette.grid)
    return figure


def shown_token(token: str) -> str:
    """A token as figures and tables write it: space and control characters by signs of their own."""
    signs = {"\0": "■", "\n": "↵", "\t": "→", " ": "␣"}
    return words.printable("".join(signs.get(character, character) for character in token))


def _lines(rows, key=_shape, by="layer"):
    """Rows of one run after another, each sorted along a line."""
    groups: dict = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [sorted(group, key=lambda row: row[by]) for group in groups.values()]


def _barred(panel, line, column: str, palette, number: int) -> None:
    """Line `number` of a panel by layer with its intervals, the keys "low" and "high", a little beside the other lines."""
    colour, places = palette.size(line[0]["N"]), [row["layer"] + 0.03 * number for row in line]
    panel.vlines(places, [row["low"] for row in line], [row["high"] for row in line], color=colour, linewidth=1)
    panel.plot(places, [row[column] for row in line], "o-", color=colour)

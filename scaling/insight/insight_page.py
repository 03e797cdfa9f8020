"""The page of `tools.probe`: one HTML file of what `scaling.insight.looking` measured."""

import numpy as np
from etils import epath
from scipy import stats

from scaling.figures import words
from scaling.insight.drawing import final_rows, insight_figures, insight_palette, shown_token
from scaling.insight.looking import PARTS
from scaling.report import page, plots

PLACES = 24  # tokens of the prompt that the table of the lens shows, its last


def write_insight(found: dict, directory, title: str) -> epath.Path:
    """Writes index.html (atomically) and figures/*.png into `directory`; returns the path of the page."""
    palette = insight_palette(found)
    drawn = plots.draw_all(insight_figures(found, palette), palette)
    return page.write_page(directory, insight_html(found, palette, drawn, title), drawn)


def insight_html(found: dict, palette, drawn: dict[str, dict], title: str) -> str:
    """The page, with figures as `scaling.report.plots.draw_all` returns them."""
    return page.render_page(
        "insight.html.j2", palette, drawn, ("tokens or examples", "loss"), title=title, found=found,
        runs=run_rows(found), probes=probe_table(found), heads=head_table(found), lens=lens_table(found["prompt"]),
        autoencoders=autoencoder_table(found["autoencoders"]), said=insight_sentences(found))


def insight_sentences(found: dict) -> dict[str, list[str]]:
    """{part: sentences} of what was measured, with intervals."""
    level, said = words.percent(found["level"]), {name: [] for name in PARTS}
    for factor in dict.fromkeys(row["factor"] for row in found["probes"]):
        rows = [row for row in final_rows(found["probes"]) if row["factor"] == factor]
        best = max(rows, key=lambda row: row["accuracy"])
        said["probes"].append(
            f"{words.sentence(factor)}: at best {words.percent(best['accuracy'])} ({level} interval "
            f"{words.percent(best['low'])} to {words.percent(best['high'])}), after layer {best['layer']} of the run with "
            f"N = {words.count(best['N'])}; "
            f"{words.percent(best['majority'])} by always saying the most frequent of {best['classes']} classes, and "
            f"{words.percent(best['control'])} on the control task.")
    if found["induction"]:
        rows = [row for row in final_rows(found["induction"]) if row["final"]]
        best = max(rows, key=lambda row: row["gain"])
        said["induction"].append(
            f"The largest copying gain is {words.to_error(best['gain'], (best['high'] - best['low']) / 2)} nats per token "
            f"({level} interval {words.interval(best['low'], best['high'])}), of the run with N = {words.count(best['N'])} "
            f"and {best['layers']} layers. Its best head puts {words.percent(best['strongest'])} of its weight on the "
            f"token after the last occurrence; attention alike to all would put {words.percent(best['chance'])} there.")
    if rows := trained_autoencoders(found["autoencoders"]):
        counts = [row["latents"] for row in rows]
        fit = stats.linregress(np.log(counts), np.log([row["error"] for row in rows]))
        said["autoencoders"].append(
            f"The error falls as the power {words.with_error(fit.slope, fit.stderr)} (standard error) of the number of "
            f"directions, over a factor of {max(counts) / min(counts):.0f}.")
    if prompt := found["prompt"]:
        one = prompt["attribution"]
        total = sum(one["values"])
        said["prompt"].append(
            f"The attributions add up to {words.number(total)}, and the log-odds are {words.number(one['output'])}, "
            f"{words.number(one['baseline'])} at the baseline: the gap is {words.percent(one['gap'])} of the difference "
            f"after {one['steps']} gradients, and the completeness test is {'passed' if one['complete'] else 'failed'}.")
    return said


def run_rows(found: dict) -> dict:
    """The runs that were looked into, for the macro `table`."""
    rows = [(row["run"], [row["family"], words.count(row["N"]), words.count(row["D"]), row["layers"] or "–",
                          row["width"] or "–", row["step"], row["seed"]]) for row in found["runs"]]
    return {"columns": ["family", "N", "D", "layers", "width", "steps", "seed"], "rows": rows}


def probe_table(found: dict) -> dict:
    """Probes of each run, factor and layer."""
    rows = [(f"{row['factor']}, layer {row['layer']}", [
        words.count(row["N"]), words.count(row["D"]), words.percent(row["accuracy"]),
        f"{words.percent(row['low'])} to {words.percent(row['high'])}", words.percent(row["majority"]),
        words.percent(row["control"]), f"{100 * row['selectivity']:+.0f}".replace("-", "−")])
        for row in sorted(found["probes"], key=lambda row: (row["factor"], row["N"], row["D"], row["layer"]))]
    return {"columns": ["N", "D", "accuracy", f"{words.percent(found['level'])} interval", "most frequent", "control task",
                        "selectivity, points"], "rows": rows}


def head_table(found: dict) -> dict:
    """The induction score of the best head of each layer, by run."""
    rows = [row for row in final_rows(found["induction"]) if row["final"]]
    most = max((len(row["heads"]) for row in rows), default=0)
    cells = [(row["run"], [words.count(row["N"]), words.count(row["D"]),
                           *[words.percent(max(layer)) for layer in row["heads"]], *["–"] * (most - len(row["heads"])),
                           words.number(row["gain"], 2), words.interval(row["low"], row["high"])]) for row in rows]
    return {"columns": ["N", "D", *[f"layer {i + 1}" for i in range(most)], "copying gain",
                        f"{words.percent(found['level'])} interval"], "rows": cells}


def lens_table(prompt: dict) -> dict:
    """The likeliest next token after each layer, at the last places of the prompt."""
    if not prompt:
        return {"columns": [], "rows": []}
    first = max(0, len(prompt["tokens"]) - PLACES)
    rows = []
    for layer, (best, shares) in enumerate(zip(prompt["likeliest"], prompt["shares"], strict=True)):
        cells = [f"{shown_token(best[place][0])}\N{NO-BREAK SPACE}{100 * shares[place][0]:.0f}"
                 for place in range(first, len(best))]
        rows.append((f"layer\N{NO-BREAK SPACE}{layer}", cells))
    return {"columns": [shown_token(token) for token in prompt["tokens"][first:]], "rows": rows}


def trained_autoencoders(rows: list[dict]) -> list[dict]:
    """The rows of the end of training."""
    return [row for row in rows if row["steps"] == max(each["steps"] for each in rows)]


def autoencoder_table(rows: list[dict]) -> dict:
    """Autoencoders by the number of directions and seed."""
    rows = trained_autoencoders(rows)
    text = bool(rows) and "nats" in rows[0]
    cells = [(f"{row['latents']} directions", [
        row["seed"], words.number(row["error"], 3), words.percent(row["dead"]), words.power(row["flops"], 2),
        *([words.number(row["nats"] - row["nats_clean"], 3), words.number(row["nats_mean"] - row["nats_clean"], 3)]
          if text else [])]) for row in rows]
    return {"columns": ["seed", "error", "never used", "FLOPs",
                        *(["nats lost with it", "nats lost with the mean"] if text else [])], "rows": cells}

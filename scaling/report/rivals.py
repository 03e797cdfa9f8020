"""The back-test of laws and what it does to the forecast, in words: the table of laws, the choice, the interval's parts."""

from __future__ import annotations

import math
from collections.abc import Iterator

from scaling.figures.words import NOTHING, listing, number, percent, short
from scaling.report.reading import StudyFiles

PARTS = {"parameters": "the fitted parameters", "noise": "the noise of one run",
         "evaluation": "the evaluation on other examples", "forms": "the spread of the laws"}


def rivals(study: StudyFiles) -> dict | None:
    """The laws as a table, best first: errors on runs that they were not fitted to. None without a back-test."""
    chosen = (study.fit or {}).get("selection") or {}
    rows = chosen.get("table") or []
    if not any("mape" in row for row in rows):
        return None
    ends = ((study.forecast or {}).get("parts") or {}).get("predicted") or {}
    columns = ["parameters", "error", "bias", "intervals hold", "weight"] + (["forecast"] if ends else [])
    lines = []
    for row in rows:
        cells = [str(row["parameters"]), _share(row.get("mape")), _share(row.get("bias"), signed=True),
                 _share(row.get("coverage")), _share(row.get("weight"))]
        cells += [number(ends[row["law"]], 4) if row["law"] in ends else NOTHING] if ends else []
        lines.append((row["law"].replace("_", " "), cells))
    return {"columns": columns, "rows": lines}


def _share(value, signed: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{'+' if signed and value > 0 else ''}{percent(value)}"


def choice(study: StudyFiles) -> list[str]:
    """How the law was chosen, and what the back-test says about intervals, in sentences."""
    chosen = (study.fit or {}).get("selection") or {}
    if not chosen:
        return []
    law, rule = chosen["law"].replace("_", " "), chosen["rule"]
    how = {"best": "the rule “best”: lowest error on held-out runs, ties to fewer parameters",
           "stacked": "the rule “stacked”: the mean of all laws, weighted by their error on held-out runs, in which it "
                      "weighs most",
           "median": "the rule “median”: the forecast is the median of all laws, of which it has the lowest error on "
                     "held-out runs"}
    said = [f"The law {law} was chosen by {how[rule]}." if rule in how else f"The law {law} was named before the runs."]
    before, after = (chosen.get("covered") or [None, None])[:2]
    if chosen.get("tested") and before is not None:
        said.append(f"Its {percent(chosen['level'])} intervals held {percent(before)} of {chosen['tested']} predictions of "
                    "runs that it was not fitted to.")
        if chosen["factor"] > 1:
            said.append(f"The interval of the forecast is therefore {short(chosen['factor'])} times as wide, which "
                        f"would have held {percent(after)}.")
    else:
        said.append("There are too few runs to hold some out, so the interval of the forecast is not calibrated.")
    if refuted := [row["law"].replace("_", " ") for row in chosen.get("table") or [] if row.get("refuted")]:
        said.append(f"The fitted runs refute {listing(refuted)}: residuals are larger than those of the law that fits "
                    "best, by more than chance.")
    standing = [name.replace("_", " ") for name in chosen.get("spread") or {}]
    if len(standing) > 1:
        said.append(f"The spread of {listing(standing)} is a part of the interval.")
    return said + [f"{note[0].upper()}{note[1:]}." for note in chosen.get("notes") or []]


def interval_parts(study: StudyFiles) -> list[str]:
    """How large each part of the forecast's interval is, in sentences; [] for forecasts of older versions."""
    return list(_each_part(study))


def _each_part(study: StudyFiles) -> Iterator[str]:
    known = (study.forecast or {}).get("parts")
    if not known:
        return
    shown = percent if known["space"] == "log" else number
    each = listing([f"{shown(known[name])} from {words}" for name, words in PARTS.items()])
    widened = f", with the factor {short(known['factor'], 2)} of the back-test" if known["factor"] > 1 else ""
    yield f"Standard deviations of the forecast: {each}; together {shown(known['total'])}{widened}."
    ends = known.get("predicted") or {}
    if len(ends) > 1:
        low, high = min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__)
        yield (f"All laws that were fitted forecast values from {number(ends[low], 4)} ({low.replace('_', ' ')}) to "
               f"{number(ends[high], 4)} ({high.replace('_', ' ')}).")
    if not known["evaluation"]:
        yield ("Evaluation adds nothing, since the target and the fitted runs are evaluated on the same examples, so that "
               "they share its error.")


def two_ways(study: StudyFiles) -> list[str]:
    """The exponent of the best size by the law and by the two arms, in sentences."""
    known = (study.fit or {}).get("exponents") or {}
    if known.get("by_law") is None or known.get("by_arms") is None:
        return []
    shown = [f"{number(known[way], 2)} ({percent(known['level'])} interval {number(low, 2)} to {number(high, 2)})"
             for way, ends in (("by_law", "law_interval"), ("by_arms", "arms_interval"))
             for low, high in [[math.nan if end is None else end for end in known[ends]]]]
    return [f"If compute is 6 × N × D, the best N grows as C to the power of {shown[0]} by the law beyond the largest "
            f"runs, and {shown[1]} by the two arms: β/(α+β) from the runs on the most data and those of the largest size."
            + ("" if known.get("agree") else " The two ways disagree: the form of the law decides the best size.")]

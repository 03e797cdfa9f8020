"""How good a filter is: precision and recall, on held-out examples with labels, of a run that tells labels.

    python -m tools.content_filter --workdir=runs/labels --labels=rude
    python -m tools.content_filter --workdir=runs/labels --labels=rude,spam --thresholds=0.5,0.9 --data=labelled:b.jsonl
    python -m tools.content_filter --workdir=runs/pictures --run=031f --labels=3 --json

An example is flagged where the probability of --labels, names or numbers of the run's labels, is at least a threshold.
Precision is the share of flagged examples that have one of the labels, recall the share of those with a label that are
flagged. Intervals are Wilson's, of 90%, and take examples as independent: where many come from one document they are too
narrow. A threshold that was chosen by these numbers looks better here than it will be on other data.

The page, index.html with a precision-recall curve and the labels that are flagged by mistake, lies in --output, by default
WORKDIR/filter. `python -m experiments.serve --filter=WORKDIR` uses the filter. --json prints one line of JSON. Flags can
come from the environment, such as SCALING_WORKDIR. Exit status: 0; 1 when the run cannot be read or judged; 2 for wrong
flags.
"""

import os

from scaling.devices import chips

chips.leave_absent_tpus_alone()  # before JAX starts

import numpy as np  # noqa: E402
from absl import app, flags, logging  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

import scaling  # noqa: E402
from experiments import _environment  # noqa: E402
from experiments._errors import in_one_sentence  # noqa: E402
from experiments._json import answering  # noqa: E402
from scaling.devices.compilation import keep_compiled  # noqa: E402
from scaling.evaluate import thresholds  # noqa: E402
from scaling.figures import plot, words  # noqa: E402
from scaling.report.plain_page import Section, write_sections  # noqa: E402
from scaling.report.plots import PlannedFigure  # noqa: E402
from scaling.study.classifying import ClassifierRun  # noqa: E402
from scaling.study.evaluating import with_data  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of a study whose runs tell labels.")
_RUN = flags.DEFINE_string("run", "best", "best, N=<parameters>, the fingerprint of a run, or the start of one.")
_LABELS = flags.DEFINE_list("labels", [], "The labels that are to be found, by name or number.")
_THRESHOLDS = flags.DEFINE_list("thresholds", ["0.1", "0.25", "0.5", "0.75", "0.9", "0.95"], "Probabilities that flag.")
_DATA = flags.DEFINE_string("data", None, "Other data of the run's kind, as config.data.name; by default its own.")
_UNITS = flags.DEFINE_integer("units", 0, "Examples of the held-out set; 0 is all.", 0)
_OUTPUT = flags.DEFINE_string("output", None, "The folder of the page; by default WORKDIR/filter.")
_JSON = flags.DEFINE_bool("json", False, "Print what was found as one line of JSON.")


def main(argv):
    with in_one_sentence(), answering(_JSON.value) as answer:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: this command takes flags only, see --help")
        if not _LABELS.value:
            raise flags.Error("name the labels that the filter is to find by --labels=")
        keep_compiled()
        told = ClassifierRun(with_data(scaling.restore(_WORKDIR.value, _RUN.value), _DATA.value, _UNITS.value))
        found = judge(told, told.numbers(_LABELS.value), [threshold_of(each) for each in _THRESHOLDS.value])
        print(describe(found))
        path = write_page(found, _OUTPUT.value or os.path.join(_WORKDIR.value, "filter"))
        print(f"page: {path}")
        answer |= {name: value for name, value in found.items() if name != "curve"} | {"page": os.fspath(path)}


def threshold_of(text: str) -> float:
    """A threshold that a flag gives."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise flags.Error(f"--thresholds takes probabilities above 0 and at most 1, not {text!r}")
    return value


def judge(told: ClassifierRun, labels: list[int], at: list[float]) -> dict:
    """What the filter finds on the held-out examples of a run: numbers at each threshold, the curve, and mistakes."""
    examples, true = told.held_out()
    scores = told.probabilities(examples)[:, labels].sum(1)
    positive = np.isin(true, labels)
    rows = thresholds.at_thresholds(scores, positive, sorted(at))
    precision, recall, _ = thresholds.precision_recall_curve(scores, positive)
    middle = min(rows, key=lambda row: abs(row.threshold - 0.5))
    wrong = (scores >= middle.threshold) & ~positive
    mistakes = [(name, int((wrong & (true == number)).sum()), int((true == number).sum()))
                for number, name in enumerate(told.names) if number not in labels]
    return {"run": told.run.fingerprint, "family": told.run.record.get("family"), "data": told.run.experiment.data.name,
            "labels": [told.names[label] for label in labels], "examples": len(true), "positive": int(positive.sum()),
            "level": thresholds.LEVEL, "average_precision": thresholds.average_precision(scores, positive),
            "thresholds": [{"threshold": row.threshold, "flagged": row.precision.of, "f1": row.f1,
                            **{name: getattr(row, name)._asdict() for name in ("precision", "recall", "false_alarms")}}
                           for row in rows],
            "mistakes_at": middle.threshold,
            "mistakes": [{"label": name, "flagged": flagged, "of": of}
                         for name, flagged, of in sorted(mistakes, key=lambda each: -each[1])],
            "curve": {"precision": precision, "recall": recall}}


COLUMNS = ("threshold", "flagged", "precision", "recall", "false alarms", "F1")


def cells(row: dict) -> list[str]:
    """A row of the table as text: shares with their intervals."""
    shares = [f"{words.percent(share['value'], 3)} [{words.percent(share['low'], 3)}, {words.percent(share['high'], 3)}]"
              for share in (row["precision"], row["recall"], row["false_alarms"])]
    return [f"{row['flagged']:,}", *shares, words.number(row["f1"], 3)]


def headline(found: dict) -> str:
    """What the filter is, in a sentence."""
    return (f"Run {found['run']} finds {words.listing(found['labels'], 'or')} in {found['data']} with an average precision "
            f"of {words.number(found['average_precision'], 3)}; {found['positive']:,} of {found['examples']:,} held-out "
            f"examples ({words.percent(found['positive'] / found['examples'])}) have the label.")


def describe(found: dict) -> str:
    """The table as text."""
    rows = [COLUMNS, *((f"{row['threshold']:g}", *cells(row)) for row in found["thresholds"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join([headline(found), *("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)])


def draw(found: dict) -> Figure:
    """Precision against recall at all thresholds, with intervals at those of the table."""
    figure, axes = plot.canvas("recall", "precision", log_x=False)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04))
    curve, colour = found["curve"], plot.HUES[0]
    axes.step(curve["recall"], curve["precision"], where="pre", color=colour, linewidth=1.6, zorder=3)
    share = found["positive"] / found["examples"]
    axes.axhline(share, color=plot.COLOURS.muted, linestyle=(0, (1, 2)), linewidth=1.3)
    for row in found["thresholds"]:
        x, y = row["recall"], row["precision"]
        if not row["flagged"]:
            continue
        bars = {"xerr": [[x["value"] - x["low"]], [x["high"] - x["value"]]],
                "yerr": [[y["value"] - y["low"]], [y["high"] - y["value"]]]}
        axes.errorbar(x["value"], y["value"], **bars, fmt="o", color=colour, markersize=4, elinewidth=1, zorder=4)
        axes.annotate(f"{row['threshold']:g}", (x["value"], y["value"]), xytext=(5, 5), textcoords="offset points",
                      color=plot.COLOURS.ink)
    plot.finish(axes, [(share, "at random", plot.COLOURS.muted)], ticks=words.short, log_y=False)
    return figure


def write_page(found: dict, output):
    """Writes the page into a folder; returns its path."""
    level = words.percent(found["level"])
    figures = {"precision-recall": PlannedFigure(
        lambda: plot.styled(draw)(found), "precision against recall of the filter",
        f"Precision and recall at every threshold; dots are the thresholds of the table, with intervals of {level}.")}
    table = {"columns": COLUMNS[1:], "rows": [(f"{row['threshold']:g}", cells(row)) for row in found["thresholds"]]}
    mistakes = {"columns": ["flagged by mistake", "examples"], "rows": [
        (row["label"], [f"{row['flagged']:,}", f"{row['of']:,}"]) for row in found["mistakes"][:20]]}
    sections = [
        Section("filter", "What the filter finds", [headline(found)], figures=["precision-recall"]),
        Section("thresholds", "At each threshold", [
            "Precision is the share of flagged examples that have the label, recall the share of those with the label that "
            "are flagged, and false alarms are the share of the others that are flagged.",
            f"Intervals are Wilson's, of {level}, and take examples as independent. A threshold that is chosen by this "
            "table looks better here than it will be on other data."], table=table),
        Section("mistakes", "What is flagged by mistake", [f"Held-out examples of other labels, at a threshold of "
                                                           f"{found['mistakes_at']:g}."], table=mistakes)]
    return write_sections(output, f"A filter for {words.listing(found['labels'], 'or')}", sections, figures,
                          ("examples", "loss"))


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)

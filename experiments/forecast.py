"""Forecast a run before it is trained, in a file that is never rewritten, and check the forecast afterwards.

    python -m experiments.forecast --points=points.csv --target='N=7e9,D=1.4e11' --output=forecast.json

fits L = E + A N^-alpha + B D^-beta to points.csv, which has one row a run. The options for columns, rows, the
law and its objective are those of experiments.fit. It prints the prediction for a run of 7e9 parameters and
1.4e11 tokens with its interval, and writes forecast.json: the prediction, the law, every warning, the manifest
of the fit, and a hash of every row of points.csv. forecast.png beside it shows the runs and the interval. A
file that exists is never overwritten, and a target that is already in the table is refused. Without --output
the prediction is only printed. The file also holds what forecasters without the law would say: the best of the
fitted runs, a line through the last two, and the power law with E = 0.

The log forecasts.jsonl beside the file gets a line for every forecast and for every score. Its lines are bound
to each other by hashes, so a forecast that is deleted and written again leaves a trace.

    python -m experiments.forecast --check=forecast.json --observed=2.31

scores it, once: the error in percent, in the fall from the best fitted run and in compute, whether the run fell
inside the interval, and how naive forecasters did, in a few sentences and in forecast_check.json. Without
--observed, the target's row is looked up in the table, which may have grown. The check is refused if the
forecast was edited, or if a row that it was made from has changed or is gone. If the table was moved, --points
or --workdir say where it is. If the log was changed or is gone, the verdict is withheld with the reason.

    python -m experiments.forecast --workdir=runs/quickstart --target='N=3e6,D=1e8' --output=forecast.json

uses the tuned runs of a study by experiments.run. --target names inputs of the law or columns of the table.
With --law=best the law is chosen by its error on held-out runs, --law=stacked takes the mean of all laws by
that error, and --law=median their median. The interval is made of
the fitted parameters, the noise of a run, the spread of the laws that these runs do not refute, and a factor
that makes it hold the held-out runs.

    python -m experiments.forecast --points=points.csv --y=loss --link=downstream --metric=error \\
        --target='N=7e9,D=1.4e11' --output=forecast.json

forecasts a downstream error in two steps: the law gives the loss, and a link, fitted to the runs that have
the column error, gives the error at that loss (downstream: epsilon - k exp(-gamma L); or sigmoid). The
intervals hold the uncertainty of both steps. The fit of the error in one step is printed beside it.

--json prints the content of the file, or of forecast_check.json, as one line of JSON, and text to standard error. Any
flag can come from the environment, such as SCALING_POINTS; the command line wins.

Exit status: 0; 1 when the data or the request allow no forecast; 2 for flags. The reason is one sentence.
"""

import types

import numpy as np
from absl import flags
from etils import epath

from experiments import _points
from experiments._json import answering
from scaling import laws
from scaling.laws.forecasts.evidence import gather_records
from scaling.laws.forecasts.prediction import describe_forecast
from scaling.laws.forecasts.verify import marks
from scaling.store import files

_TARGET = flags.DEFINE_string("target", None, "The run to forecast, by inputs or columns: N=7e9,D=1.4e11.")
_OUTPUT = flags.DEFINE_string("output", None, "A new file for the forecast; without it, the prediction is only printed.")
_CHECK = flags.DEFINE_string("check", None, "The file of a forecast to check.")
_OBSERVED = flags.DEFINE_float("observed", None, "With --check: the observed metric; else it is looked up.")
_LINK = flags.DEFINE_string("link", None, "Forecast --metric in two steps: downstream, sigmoid.")
_METRIC = flags.DEFINE_string("metric", None, "With --link: the column of the metric, such as an error.")
_LINK_LOSS = flags.DEFINE_string("link_loss", "mse", "With --link: the objective of the link's fit.")
_JSON = flags.DEFINE_bool("json", False, "Print the forecast or the check as one line of JSON, and text to standard error.")
_FIGURE = flags.DEFINE_bool("figure", True, "Draw a PNG beside the file.")
flags.adopt_module_key_flags(_points)


def main():
    with answering(_JSON.value) as answer:
        if _points.law() == "list":
            print(_points.listing())
            answer["laws"] = _points.listed()
        else:
            answer |= forecast() if _CHECK.value is None else check()


def forecast() -> dict:
    """Fits a law, predicts the target, and with --output writes the forecast. Returns its content and its path."""
    if _OBSERVED.value is not None:
        raise flags.Error("--observed goes with --check=FILE, the forecast to check")
    if (_LINK.value is None) != (_METRIC.value is None):
        raise flags.Error("--link=FORM and --metric=COLUMN go together: the loss leads to the metric")
    target = _points.pairs(_TARGET.value, "target", _number)
    if not target:
        raise flags.Error("say which run to forecast, --target='N=7e9,D=1.4e11', or which forecast to check, "
                          "--check=FILE")
    known = _points.everything()
    runs = _points.chosen(known)
    rule = _points.law() in laws.RULES
    _refuse_unknown(target, ("N", "D") if rule else laws.get_form(_points.law()).inputs, runs)
    if rule and _LINK.value is not None:
        raise flags.Error(f"--law={_points.law()} chooses a law of one step; name a law beside --link")
    if rule:
        chosen = _points.selected(runs)
        print(f"{_points.in_flags(str(chosen))}\n")
        boot = laws.calibrate(chosen, **_points.resampling())
        fit = boot.fit
    elif _LINK.value is None:
        fit = laws.fit(runs, _points.law(), **_points.options())
        boot = laws.bootstrap(fit, **_points.resampling())
    else:
        fit = laws.two_step(runs, _points.law(), _LINK.value, metric=_METRIC.value,
                            law_options=_points.options(), link_options={"loss": _LINK_LOSS.value})
        boot = fit.bootstrap(**_points.resampling())
    if _OUTPUT.value is None:
        predicted = laws.predict_run(fit, boot, target, _points.level())
        print(describe_forecast(predicted, fit))
        return predicted
    everything = known if known.source["kind"] == "file" else None
    content = laws.forecast.write(_OUTPUT.value, fit, boot, target, everything, _points.level())
    print(describe_forecast(content, fit))
    for sentence in marks(content):
        print(f"  ! {sentence}")
    print(f"written to {_OUTPUT.value}, sha256 {content['hash']}\n"
          "Commit it, or publish the hash, before the run starts. Afterwards: "
          f"python -m experiments.forecast --check={_OUTPUT.value} --observed=...")
    _draw(_OUTPUT.value, content, None, fit.runs)
    return files.read_json(_OUTPUT.value) | {"written": _OUTPUT.value}


def check() -> dict:
    """Scores a forecast and prints the verdict. Returns the content of forecast_check.json."""
    if _TARGET.value is not None or _OUTPUT.value is not None:
        raise flags.Error("--check takes neither --target nor --output: the forecast names its target")
    result = laws.forecast.check(_CHECK.value, _OBSERVED.value, _points.source())
    print(result["verdict"])
    checked = laws.forecast.verify(_CHECK.value, _points.source())
    for sentence in checked.sentences:
        if sentence not in result["verdict"]:
            print(sentence)
    content = laws.forecast.read(_CHECK.value)
    _, table, _ = gather_records(_points.source() or content["source"]["path"], content["measured"])
    _draw(_CHECK.value, content, result, laws.Runs(table, content["columns"], np.arange(len(table))))
    return files.read_json(laws.forecast.score_path(_CHECK.value))


def _draw(path: str, content: dict, result: dict | None, runs: laws.Runs) -> None:
    """A PNG beside the forecast: the runs that have the metric, the interval, and the observation."""
    if not _FIGURE.value:
        return
    history = None
    if content["compute_ratio"]:  # without it the target has no place on an axis of compute
        runs = runs.select(np.isfinite(runs.y), "not measured")
        history = types.SimpleNamespace(runs=runs, y=runs.y)
    laws.plots.save(epath.Path(path).with_suffix(".png"), laws.plots.forecast(content, result, history))


def _number(text: str) -> float | str:
    """A target's value: a number, or a word such as a group's name."""
    try:
        return float(text)
    except ValueError:
        return text


def _refuse_unknown(target: dict, inputs, runs: laws.Runs) -> None:
    known = [*inputs, *(role for role in runs.columns if role != "y"), *runs.frame.columns]
    for name in target:
        if name not in known:
            raise laws.LawError(f"--target names {name!r}, which is no input of the law and no column; "
                                f"there are {', '.join(map(str, dict.fromkeys(known)))}")


if __name__ == "__main__":
    _points.run(main)

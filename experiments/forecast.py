"""Say what a run will show before it is trained, in a file that cannot be rewritten; afterwards, check it.

    python -m experiments.forecast --points=points.csv --target='N=7e9,D=1.4e11' --output=forecast.json

fits L = E + A N^-alpha + B D^-beta to points.csv (one row a run; the options for columns, rows, the law and
its objective are those of experiments.fit), prints the prediction for a run of 7e9 parameters and 1.4e11
tokens with the interval that it should fall in, and writes forecast.json: the prediction, the law, every
warning, the manifest of the fit, and a hash of every row of points.csv. forecast.png beside it shows the runs
and the interval. A file that exists is never overwritten, and a target that is already in the table is
refused. Without --output the prediction is only printed.

    python -m experiments.forecast --check=forecast.json --observed=2.31

scores it: the error, whether the run fell inside the interval and how far from its middle, in one sentence
and in forecast_check.json, once. Without --observed, the target's row is looked for in the table, which may
have grown. The check is refused if the forecast was edited, or if a row that it was made from has changed or
is gone. --points or --workdir say where the table is, if it was moved.

    python -m experiments.forecast --workdir=runs/quickstart --target='N=3e6,D=1e8' --output=forecast.json

takes the tuned runs of a study by experiments.run. --target names inputs of the law or columns of the table.

    python -m experiments.forecast --points=points.csv --y=loss --link=downstream --metric=error \\
        --target='N=7e9,D=1.4e11' --output=forecast.json

forecasts a downstream error in two steps: the law gives the loss, and a link, fitted to the runs that have
the column error, gives the error at that loss (downstream: epsilon - k exp(-gamma L); or sigmoid). The
intervals hold the uncertainty of both. The one-step fit of the error is printed beside it.

Any flag can come from the environment, as SCALING_POINTS and the like; the command line wins.

Exit status: 0, 1 when the data or the request allow no forecast, 2 for flags; the reason is one sentence.
"""

import types

import numpy as np
from absl import flags
from etils import epath

from experiments import _points
from scaling import laws
from scaling.laws.forecasts import evidence

_TARGET = flags.DEFINE_string("target", None, "The run to forecast, by inputs or columns: N=7e9,D=1.4e11.")
_OUTPUT = flags.DEFINE_string("output", None, "A new file to write; without it, the prediction is printed.")
_CHECK = flags.DEFINE_string("check", None, "A forecast's file, to be checked against what was observed.")
_OBSERVED = flags.DEFINE_float("observed", None, "With --check: the target's metric, else searched.")
_LINK = flags.DEFINE_string("link", None, "Forecast --metric in two steps: downstream, sigmoid.")
_METRIC = flags.DEFINE_string("metric", None, "With --link: the column of the metric, such as an error.")
_LINK_LOSS = flags.DEFINE_string("link_loss", "mse", "With --link: objective of the link.")
_FIGURE = flags.DEFINE_bool("figure", True, "Draw a PNG beside the file.")
flags.adopt_module_key_flags(_points)


def main():
    if _points.law() == "list":
        print("\n".join(f"{form.name:<18} {form.formula}" for form in laws.FORMS.values()))
    elif _CHECK.value is not None:
        check()
    else:
        forecast()


def forecast():
    """Fit, predict, and with --output write the prediction down."""
    if _OBSERVED.value is not None:
        raise flags.Error("--observed goes with --check=FILE, the forecast that it is to be held against")
    if (_LINK.value is None) != (_METRIC.value is None):
        raise flags.Error("--link=FORM and --metric=COLUMN go together: the loss leads to the metric")
    target = _points.pairs(_TARGET.value, "target", _number)
    if not target:
        raise flags.Error("say which run to forecast, --target='N=7e9,D=1.4e11', or which forecast to check, "
                          "--check=FILE")
    known = _points.everything()
    runs = _points.chosen(known)
    _refuse_unknown(target, laws.get_form(_points.law()).inputs, runs)
    if _LINK.value is None:
        fit = laws.fit(runs, _points.law(), **_points.options())
        boot = laws.bootstrap(fit, **_points.resampling())
    else:
        fit = laws.forecast.two_step(runs, _points.law(), _LINK.value, metric=_METRIC.value,
                                     law_options=_points.options(), link_options={"loss": _LINK_LOSS.value})
        boot = fit.bootstrap(**_points.resampling())
    if _OUTPUT.value is None:
        print(describe(laws.forecast.predict(fit, boot, target, _points.level()), fit))
        return
    everything = known if known.source["kind"] == "file" else None
    content = laws.forecast.write(_OUTPUT.value, fit, boot, target, everything, _points.level())
    print(describe(content, fit))
    print(f"written to {_OUTPUT.value}, sha256 {content['hash']}\n"
          "Commit it, or publish the hash, before the run starts. Afterwards: "
          f"python -m experiments.forecast --check={_OUTPUT.value} --observed=...")
    _draw(_OUTPUT.value, content, None, fit.runs)


def check():
    """Score a forecast and say how it went."""
    if _TARGET.value is not None or _OUTPUT.value is not None:
        raise flags.Error("--check takes neither --target nor --output: the forecast says what it is of")
    result = laws.forecast.check(_CHECK.value, _OBSERVED.value, _points.source())
    print(result["verdict"])
    content = laws.forecast.read(_CHECK.value)
    _, table, _ = evidence.gather(_points.source() or content["source"]["path"], content["measured"])
    _draw(_CHECK.value, content, result, laws.Runs(table, content["columns"], np.arange(len(table))))


def _draw(path: str, content: dict, result: dict | None, runs: laws.Runs) -> None:
    """A PNG beside the forecast: the runs that have the metric, the interval, and what was observed."""
    if not _FIGURE.value:
        return
    from scaling.laws.figures import plots
    history = None
    if content["compute_ratio"]:  # else the target has no place on an axis of compute
        runs = runs.select(np.isfinite(runs.y), "not measured")
        history = types.SimpleNamespace(runs=runs, y=runs.y)
    plots.save(epath.Path(path).with_suffix(".png"), plots.forecast(content, result, history))


def describe(content: dict, fit) -> str:
    """A prediction as a few lines of text."""
    level, roles = content["level"], {column: role for role, column in fit.runs.columns.items()}
    at = ", ".join(f"{roles.get(name, name)} = {value if isinstance(value, str) else f'{value:.6g}'}"
                   for name, value in content["target"].items())
    lines = [f"{content['metric']} of the run with {at}:",
             f"  {content['predicted']:.5g}, {level:.0%} [{_ends(content['interval'])}] for one run, "
             f"[{_ends(content['confidence'])}] for the law itself",
             f"  by {fit.form.name} ({fit.form.formula}), {len(fit.y)} runs"]
    if loss := content.get("loss"):
        lines.append(f"  through {loss['metric']} = {loss['predicted']:.5g} [{_ends(loss['interval'])}]")
        direct = content["direct"]
        lines.append(f"  in one step: {direct['predicted']:.5g} [{_ends(direct['interval'])}]"
                     if "predicted" in direct else f"  no forecast in one step: {direct['refused']}")
    if content["compute_ratio"]:
        lines.append(f"  {content['compute_ratio']:.3g} times the compute of the largest run")
    return "\n".join([*lines, *(f"  ! {said['message']}" for said in content["diagnostics"])])


def _ends(interval) -> str:
    return ", ".join(f"{end:.5g}" for end in interval)


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

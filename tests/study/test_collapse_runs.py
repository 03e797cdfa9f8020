"""The gate on real runs: it flags sizes that were trained at a wrong rate, and no tuned one.

Measured (40 runs, about three minutes on two idle cores): of four sizes it flags four at a third of the rate (5.2 to 7.2
standard deviations), two at nine times the rate (2.3 to 4.8), and none whose weights decay too fast (0.9 to 3.7), since in
a third of so short a training that hardly shows. Eight tuned runs lie at 0.1 to 1.3.
"""

import os
import pathlib
import subprocess
import sys

import pandas as pd
import pytest

from scaling import laws
from scaling.laws.checks.collapse import EARLY, Curve, gate
from scaling.report.reading import read_study

ROOT = pathlib.Path(__file__).parents[2]
RATE = 8e-3  # of the tuned runs in tests/collapse_study.py


def curves(study):
    """{(rate over the tuned one, decay, size, data, seed): Curve} in units of the metric."""
    found = {}
    for _, run in study.runs.iterrows():
        points, unit = study.curves[run["fingerprint"]], run[study.metric] / run["loss"]
        what = round(run["learning_rate"] / RATE, 2), run["weight_decay"] > 0
        key = *what, run["params_non_embedding"], run["data"], run["seed"]
        found[key] = Curve(run["fingerprint"], key[2], key[3], points["data"].to_numpy(float),
                           unit * points["loss"].to_numpy(float), int(key[4]))
    return found


def judged(study):
    """A row a run at the most data: what was done to it, its size, and how far it is from the tuned runs of other sizes."""
    known, rows = curves(study), []
    tuned = [key for key in known if key[0] == 1.0 and not key[1]]
    ends = study.runs.set_index("fingerprint")[study.metric]
    points = pd.DataFrame([{"N": key[2], "D": key[3], "loss": ends[known[key].name]} for key in tuned])
    for key, one in known.items():
        if key[3] != points.D.max():
            continue
        law = laws.fit(points[key[2] != points.N], "kaplan", delta="noise", quick=True)
        early = one.seen <= EARLY * one.data
        part = Curve("judged", one.size, one.data, one.seen[early], one.loss[early], one.seed)
        found = gate(part, [known[other] for other in tuned], law)
        what = "decay" if key[1] else {1.0: "tuned"}.get(key[0], f"rate times {key[0]:g}")
        rows.append({"what": what, "size": key[2], "deviation": found.deviation, "flagged": found.flagged,
                     "result": ends[one.name]})
    return pd.DataFrame(rows)


@pytest.mark.slow
def test_mistuned_sizes_of_real_runs_are_flagged_before_a_third_of_their_training(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")}
    ran = subprocess.run([sys.executable, "-m", "experiments.run", f"--config={ROOT}/tests/collapse_study.py",
                          f"--workdir={tmp_path}"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    table = judged(read_study(tmp_path))
    print(table.to_string())
    share = table.groupby("what").flagged.mean()
    assert share["tuned"] <= 0.125 and share["rate times 0.33"] >= 0.75 and share["rate times 9"] >= 0.5
    middle = table.groupby("what").deviation.median()
    assert middle["decay"] > middle["tuned"] and middle["rate times 9"] > 3 * middle["tuned"]

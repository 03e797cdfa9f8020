"""What a report says about trends, tuning and compute is true of the records."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from report_page import Page, sketch_of
from report_study import DATA, LAW, SIZES, fill, record, surface

from scaling.figures import words
from scaling.report import plots
from scaling.report.reading import law_values, read_study
from scaling.report.sections import key_facts, monotone
from scaling.report.study_page import study_palette
from scaling.results import tuned
from scaling.results.records import Records
from scaling.store import files


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    return workdir, fill(workdir)


@pytest.mark.parametrize("seed", range(5))
def test_monotone_names_exactly_the_planted_violations(tmp_path, seed):
    rng = np.random.default_rng(seed)
    losses = surface(np.array(SIZES)[:, None], np.array(DATA)[None, :]) * (1 + 0.08 * rng.normal(size=(4, 4)))
    runs = [record(n, d, rate, losses[i, j] + extra) for i, n in enumerate(SIZES) for j, d in enumerate(DATA)
            for rate, extra in ((0.001, 0.3), (0.01, 0.0), (0.1, 0.5))]
    for run in runs:
        Records(tmp_path).write(run)
    study = read_study(tmp_path)
    in_size, in_data = monotone(study)
    for answer, rises, units in ((in_size, np.argwhere(np.diff(losses, axis=0) >= 0), "parameters"),
                                 (in_data, np.argwhere(np.diff(losses, axis=1) >= 0), "tokens")):
        assert answer["verdict"] == ("no" if len(rises) else "yes")
        assert answer["tally"] == f"it falls in {12 - len(rises)} of 12 steps"
        assert len(answer["against"]) == len(rises)
        for i, j in rises:
            n, d = words.count(SIZES[i]), words.count(DATA[j])
            start = f"at {d} tokens, from {n} to" if units == "parameters" else f"at {n} parameters, from {d}"
            assert any(sentence.startswith(start) for sentence in answer["against"])


def test_tuned_is_the_least_finite_loss_of_the_sweep(complete):
    workdir, runs = complete
    cells = read_study(workdir).cells
    assert len(cells) == len(SIZES) * len(DATA)
    for _, cell in cells.iterrows():
        rivals = [r["bits_per_byte"] for r in runs if r["role"] == "sweep" and not r["diverged"]
                  and all(r[key] == cell[key] for key in ("params_non_embedding", "tokens_seen"))]
        assert cell["bits_per_byte"] == min(rivals)


@pytest.mark.parametrize("best, edge", [(0, "lowest"), (1, ""), (2, "highest")])
def test_a_best_learning_rate_at_the_edge_of_its_sweep_is_named(tmp_path, best, edge):
    for i, rate in enumerate((0.001, 0.01, 0.1)):
        Records(tmp_path).write(record(5_000, 4_096, rate, 2.0 + (i != best)))
    [row] = tuned.learning_rates(read_study(tmp_path).runs, "bits_per_byte").to_dict("records")
    assert row["edge"] == edge and row["best"] == (0.001, 0.01, 0.1)[best]
    said = Page(sketch_of(tmp_path)).text
    sides = [side for side in ("lowest", "highest") if f"is the {side} one tried" in said]
    assert sides == ([edge] if edge else [])


def test_the_caption_of_the_learning_rates_holds_the_planted_ones(complete):
    study = read_study(complete[0])
    rates = tuned.learning_rates(study.runs, study.metric).sort_values(["params_non_embedding", "data"])
    best = rates.groupby("params_non_embedding")["best"].last()
    first, last = best[SIZES[0]], best[SIZES[-1]]
    text = Page(sketch_of(complete[0])).text
    assert "In 16 of 16 sweeps, the rates on both sides" in text
    assert f"{words.short(first)} at 5.2k parameters and {words.short(last)} at 393k parameters" in text


def test_nearly_equal_amounts_of_data_are_one_level():
    levels = tuned.merge_levels(pd.Series([1000, 2000, 1010, 995, 2030, 4000])).tolist()
    assert levels == [1000, 2015, 1000, 1000, 2015, 4000]


def test_the_law_drawn_is_the_law_fitted():
    n, d = np.geomspace(1e3, 1e9, 7), 3e6
    fit = {"form": "chinchilla", "params": LAW, "columns": {"N": "params_non_embedding", "D": "tokens_seen"}}
    columns = {"params_non_embedding": n, "tokens_seen": d}
    np.testing.assert_allclose(law_values(fit, columns), surface(n, d), rtol=1e-12)
    assert law_values({**fit, "form": "of my own"}, columns) is None
    assert law_values(fit, {"params_non_embedding": n}) is None and law_values(None, columns) is None


@pytest.mark.parametrize("fitted, name", [("flops", "FLOPs of the model"), ("flops_executed", "FLOPs executed")])
def test_compute_is_counted_as_the_fit_counted_it(tmp_path, fitted, name):
    recorded = {run["fingerprint"]: run[fitted] for run in fill(tmp_path, without=("curves",))}
    fit = files.read_json(tmp_path / "fit.json")
    for point in fit["points"]:
        point["flops"] = recorded[point["fingerprint"]]
    files.write_json(tmp_path / "fit.json", fit)
    study = read_study(tmp_path)
    axes = plots.draw_compute(study, study_palette(study)).axes[0]
    assert study.compute == fitted and axes.get_xlabel() == f"training compute ({name})"
    drawn = {float(x) for line in axes.lines for x in line.get_xdata()}
    assert set(study.cells["fingerprint"].map(recorded)) <= drawn
    assert study.target_compute == recorded[study.forecast["target"]["fingerprint"]]


def test_the_flops_of_mfu_are_named(tmp_path):
    fill(tmp_path, without=("curves",))
    noted = {name: note for name, _, note in key_facts(read_study(tmp_path))}
    assert noted["MFU"] == "of 360 GFLOP/s measured; 38% by FLOPs executed"
    about = files.read_json(tmp_path / "study.json")
    del about["hardware_utilisation"], about["plan"]["flops_executed"]  # as results version 2 wrote it
    files.write_json(tmp_path / "study.json", about)
    noted = {name: note for name, _, note in key_facts(read_study(tmp_path))}
    assert noted["MFU"] == "of 360 GFLOP/s measured; by FLOPs executed" and "FLOPs executed" in noted

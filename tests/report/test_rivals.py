"""The page shows the back-test of the laws, the parts of the interval, both exponents and the collapse of the curves."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from report_page import Page, sketch_of, words_of
from report_study import TARGET, fill, record, surface

from scaling import laws
from scaling.report import collapsing, rivals
from scaling.report.reading import read_study
from scaling.results import seeds
from scaling.results.records import Records


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """(workdir, Calibrated) of a finished study whose law was chosen by a rule."""
    workdir = tmp_path_factory.mktemp("judged")
    records = fill(workdir, without=("fit", "forecast"), scored=False)
    alive = pd.DataFrame([run for run in records if run["role"] == "sweep" and not run["diverged"]])
    cells = alive.loc[alive.groupby(["params_non_embedding", "tokens_seen"])["bits_per_byte"].idxmin()]
    runs = laws.Runs.from_dataframe(cells.assign(size=seeds.size_labels(cells)), "bits_per_byte")
    chosen = laws.choose_law(runs, "best", ("chinchilla", "kaplan"), cluster="size", delta="noise")
    boot = laws.calibrate(dataclasses.replace(chosen, factor=1.5), 100, cluster="size")
    laws.save_fit(workdir / "fit.json", boot.fit, boot.leading, selection=boot.selection,
                  exponents=laws.size_exponents(boot.fit, boot.leading))
    target = record(*TARGET, 0.003, surface(*TARGET), role="target")
    wanted = {key: target[key] for key in ("params_non_embedding", "tokens_seen", "flops", "fingerprint")}
    laws.forecast.write(workdir / "forecast.json", boot.fit, boot, wanted,
                        laws.record_hashes(run for run in records if run["role"] == "sweep"))
    return workdir, boot


def test_the_table_of_laws_is_that_of_the_back_test(judged):
    workdir, boot = judged
    study = read_study(workdir)
    table, known = rivals.rivals(study), boot.selection.table()
    assert [name for name, _ in table["rows"]] == list(known.law)
    assert [cells[0] for _, cells in table["rows"]] == [str(n) for n in known.parameters]
    assert table["columns"][-1] == "forecast" and not study.missing.keys() & {"fit", "forecast"}
    page = words_of(workdir)
    assert "This law and its rivals on runs that they were not fitted to" in page.text and not study.broken


def test_the_choice_the_parts_and_the_factor_are_said(judged):
    workdir, boot = judged
    study = read_study(workdir)
    said, parts = " ".join(rivals.choice(study)), " ".join(rivals.interval_parts(study))
    assert f"The law {boot.selection.law} was chosen by the rule “best”" in said and "1.5 times as wide" in said
    assert "from the fitted parameters" in parts and "with the factor 1.5 of the back-test" in parts
    assert "All laws that were fitted forecast values from" in parts and "share its error" in parts
    for sentence in [*rivals.choice(study), *rivals.two_ways(study)]:
        assert sentence[0].isupper() and sentence.endswith(".") and "nan" not in sentence


def test_curves_are_drawn_over_their_ends_and_their_distance_is_said(judged):
    workdir, _ = judged
    study = read_study(workdir)
    assert 0 < collapsing.collapse_of(study).apart < 0.2
    assert "of the loss above E away from those of the other sizes" in " ".join(collapsing.collapse_sentences(study))
    assert "figure-collapse" in Page(sketch_of(workdir)).ids


def test_a_mistuned_run_is_named(judged, tmp_path):
    """The curve of one size runs 15% higher in loss above E from the start, as under too high a rate."""
    workdir, _ = judged
    study = read_study(workdir)
    assert not collapsing.flagged(study)
    law = collapsing.saved_law(study)
    cell = study.cells.sort_values(["params_non_embedding", "data"]).iloc[-1]
    curve = study.curves[cell["fingerprint"]]
    floor = law.params.get("E", 0.0) * np.log(2)
    study.curves[cell["fingerprint"]] = curve.assign(loss=floor + (curve["loss"] - floor) * 1.5)
    assert [one.name for one in collapsing.flagged(study)] == [cell["fingerprint"]]
    assert "left the curve of the others before 33%" in " ".join(collapsing.collapse_sentences(study))


def test_studies_without_a_back_test_show_none(tmp_path):
    fill(tmp_path, without=("curves",))
    study = read_study(tmp_path)
    assert rivals.rivals(study) is None and collapsing.collapse_of(study) is None
    assert [rivals.choice(study), rivals.interval_parts(study), rivals.two_ways(study)] == [[], [], []]
    assert collapsing.collapse_sentences(study) == [] and words_of(tmp_path)


def test_a_damaged_selection_is_named_and_leaves_the_page(judged, tmp_path):
    workdir, _ = judged
    fit = {name: value for name, value in json.loads((workdir / "fit.json").read_text()).items() if name != "digest"}
    for name in ("study.json", "samples.json"):
        (tmp_path / name).write_bytes((workdir / name).read_bytes())
    for run in Records(workdir).fingerprints():
        Records(tmp_path).write(Records(workdir).read(run))
    (tmp_path / "fit.json").write_text(json.dumps(fit | {"selection": fit["selection"] | {"factor": "wide"}}))
    assert "selection.factor is not a number" in read_study(tmp_path).missing["fit"] and words_of(tmp_path)

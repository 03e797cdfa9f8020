"""Whatever happened to a file of a workdir, its page is written, and says which part is missing and why."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_page import page_of, words_of
from report_study import fill, fill_images

from scaling import report
from scaling.report import comparison, shapes
from scaling.store import files

SECTIONS = {"verdict", "loss", "fit", "found", "tuning", "samples", "runs", "made", "words"}
CONTENTS = ["", "{", "[]", "{}", "null", '"text"', "[1, 2]", '{"predicted": "high"}', "\x00\xff"]
TEXT_FILES = ("study", "fit", "forecast", "forecast_check", "samples")
IMAGE_FILES = ("pictures", "examine", "baselines", "fits/kid")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    found = {}
    for make, names in ((fill, TEXT_FILES), (fill_images, IMAGE_FILES)):
        workdir = tmp_path_factory.mktemp(make.__name__)
        make(workdir)
        found |= dict.fromkeys(names, workdir)
    return found


def place(studies, name, tmp_path):
    """A copy of the study that has the file `name`, without most curves."""
    copy = tmp_path / "copy"
    shutil.copytree(studies[name], copy, ignore=shutil.ignore_patterns("curves"), dirs_exist_ok=True)
    return copy


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, contents", [
    *((name, CONTENTS[i % len(CONTENTS):][:1]) for i, name in enumerate((*TEXT_FILES, *IMAGE_FILES), 1)),
    *(pytest.param(name, CONTENTS, marks=pytest.mark.slow) for name in (*TEXT_FILES, *IMAGE_FILES))])
def test_a_damaged_file_costs_its_part_and_is_named(studies, name, contents, tmp_path):
    for content in contents:
        workdir = place(studies, name, tmp_path)
        (workdir / f"{name}.json").write_text(content, encoding="latin-1")
        page = words_of(workdir)
        assert set(page.ids) >= SECTIONS, content
        text = page.text.split("Words of this page")[0]
        says_nothing = name in ("samples", "pictures", "examine") and content == "[]" or \
            name in ("study", "baselines") and content in ("{}", '{"predicted": "high"}')
        if not says_nothing:
            assert f"{name}.json" in text, content
        if name in ("forecast", "forecast_check"):
            assert "The forecast held" not in text


@pytest.mark.filterwarnings("ignore")
def test_damaged_records_and_curves_are_named_and_the_others_are_shown(tmp_path):
    runs = fill(tmp_path, without=("fit", "forecast"))
    first, second, third = (run["fingerprint"] for run in runs[:3])
    (tmp_path / "records" / f"{first}.jsonl").write_text('{"fingerprint": "')
    lines = (tmp_path / "curves" / f"{second}.jsonl").read_text().splitlines()
    (tmp_path / "curves" / f"{second}.jsonl").write_text("\n".join([*lines[:9], lines[9][:20]]))
    (tmp_path / "curves" / f"{third}.jsonl").write_text("\n".join(lines[:len(lines) // 2]))
    page = words_of(tmp_path)
    for name in (f"{first}.jsonl", f"curves/{second}.jsonl", f"curves/{third}.jsonl"):
        assert name in page.text
    assert sum("run-" in name for name in page.ids if not name.startswith("word-")) == len(runs) - 1


@pytest.mark.filterwarnings("ignore")
def test_an_odd_value_costs_a_part_of_the_page_and_is_said_at_its_top(studies, tmp_path, monkeypatch):
    workdir = place(studies, "fit", tmp_path)
    from scaling.report import sections
    monkeypatch.setattr(sections, "key_facts", lambda study: 1 / 0)
    monkeypatch.setattr(sections.fitting, "remarks", lambda study: {}["no"])
    page = words_of(workdir)
    assert set(page.ids) >= SECTIONS and "'facts' of this page is left out" in page.text
    assert "'remarks' of this page is left out" in page.text


def test_the_shapes_accept_what_studies_write(studies):
    for name, workdir in studies.items():
        content = files.read_json(workdir / f"{name}.json")
        assert shapes.fault(content, shapes.SHAPES[name.rpartition("/")[0] and "fit" or name]) == ""


@pytest.mark.parametrize("name, content, said", [
    ("forecast", {"predicted": 1.0}, "interval is missing"), ("fit", {"form": 3, "params": {}}, "form is not a text"),
    ("forecast_check", {"observed": 1, "predicted": 1, "inside": 1}, "inside is not true or false"),
    ("samples", [{"text": "a", "params_non_embedding": "big"}], "[0].params_non_embedding is not a number"),
    ("fit", {"form": "a", "params": {}, "intervals": {"E": [1]}}, "intervals.E has 1 values, not 2"),
    ("study", [], "its content is not an object with keys"), ("pictures", {}, "its content is not a list")])
def test_a_fault_is_named_by_its_key(name, content, said):
    assert said in shapes.fault(content, shapes.SHAPES[name])


VALUES = st.sampled_from([None, True, -1, 0, 1e300, float("inf"), "text", "", [], {}, [None], {"a": 1}])


def mutated(content, data):
    """`content` with one value, somewhere in it, replaced or removed."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = data.draw(st.sampled_from(keys))
    inside = content[key]
    if isinstance(inside, (dict, list)) and inside and data.draw(st.booleans()):
        mutated(inside, data)
    elif data.draw(st.booleans()):
        content[key] = data.draw(VALUES)
    else:
        del content[key]


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_value_anywhere_in_a_file_leaves_a_page(studies, tmp_path_factory, data):
    name = data.draw(st.sampled_from([*TEXT_FILES, *IMAGE_FILES]))
    workdir = tmp_path_factory.mktemp("mutated")
    try:
        copy = place(studies, name, workdir)
        content = json.loads((copy / f"{name}.json").read_text())
        mutated(content, data)
        (content if isinstance(content, dict) else {}).pop("digest", None)
        (copy / f"{name}.json").write_text(json.dumps(content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            words_of(copy)
            if data.draw(st.integers(0, 9)) == 0:
                page_of(copy)
                comparison.read_members([copy])
                report.write_comparison([copy], workdir / "out")
    finally:
        shutil.rmtree(workdir)

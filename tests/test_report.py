"""The report: complete, self-contained, true to its files, and indifferent to what is missing or hostile in them."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling import report
from scaling.records import Records, WorkdirError
from scaling.report import figures, plot, trends, words

LAW = {"E": 1.05, "A": 9.0, "B": 95.0, "alpha": 0.31, "beta": 0.36}
SIZES = [5_200, 24_600, 98_300, 393_000]
DATA = [262_144, 524_288, 1_048_576, 2_097_152]
SECTIONS = ["verdict", "loss", "fit", "tuning", "samples", "runs", "made"]
FIGURES = ["verdict", "compute", "params", "data", "residuals", "learning-rate", "curves"]
SUPERSCRIPTS = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
HOSTILE = "def f(x):\n    <script>alert('owned')</script> & </pre>\x00\ud800 \"quoted\""


def surface(params, data):
    return LAW["E"] + LAW["A"] * params ** -LAW["alpha"] + LAW["B"] * data ** -LAW["beta"]


def record(params, data, rate, loss, role="sweep", diverged=False):
    name = f"{params:x}-{data:x}-{rate:g}".replace("e-", "m")
    return {"fingerprint": name, "experiment": {"family": {"width": 16}, "optim": {"learning_rate": rate}}, "family": "transformer",
            "role": role, "params_total": params + 8_192, "params_non_embedding": params, "tokens_seen": data, "tokens_unique": data,
            "flops": 6.6 * params * data, "flops_6nd": 6 * params * data, "steps": data // 4096, "learning_rate": rate, "seed": 0,
            "weight_decay": 0.1, "loss": loss * math.log(2), "bits_per_byte": loss, "bits_per_byte_package": loss * 1.06,
            "diverged": diverged, "diverged_step": 17 if diverged else None, "seconds": 3e-13 * params * data + 0.8,
            "data_fingerprint": "pycode-stdlib-1f3c", "versions": {"python": "3.11.9", "jax": "0.10.2"}, "git_commit": "abc123",
            "finished": "2026-01-01T00:00:00"}


def sweep(seed=0):
    rng = np.random.default_rng(seed)
    runs = []
    for params in SIZES:
        best = 0.02 * (params / SIZES[0]) ** -0.35
        for data in DATA:
            for rate in best * np.array([0.4, 1.1, 3.0]):
                loss = surface(params, data) * (1 + 0.03 * math.log(rate / best) ** 2 + 0.003 * rng.normal())
                runs.append(record(params, data, float(f"{rate:.2g}"), loss))
    dead = runs[-1]
    dead.update(diverged=True, diverged_step=17, loss=float("nan"), bits_per_byte=float("nan"), bits_per_byte_package=float("nan"))
    return runs


def curve(run, rng):
    tokens = np.arange(1, run["steps"] + 1) * 4096
    late = np.clip((tokens / tokens[-1] - 0.8) / 0.2, 0, 1)
    loss = math.log(2) * (surface(run["params_non_embedding"], tokens) + 0.15 - 0.15 * late) + 0.03 * rng.normal(size=len(tokens))
    return [{"step": i + 1, "tokens": int(t), "loss": float(min(x, 5.5)), "learning_rate": run["learning_rate"]}
            for i, (t, x) in enumerate(zip(tokens, loss))]


def documents(runs):
    """What the rest of a study writes beside the records."""
    alive = [run for run in runs if not run["diverged"] and run["role"] == "sweep"]
    keys = ("params_non_embedding", "tokens_seen", "flops", "bits_per_byte", "fingerprint")
    budgets = np.geomspace(min(r["flops"] for r in alive), 40 * max(r["flops"] for r in alive), 24)

    def optimum(flops):
        sizes = np.geomspace(1e3, 1e8, 4000)
        at = int(np.argmin(surface(sizes, flops / (6 * sizes))))
        return float(sizes[at]), float(flops / (6 * sizes[at]))

    points = [min((r for r in alive if r["params_non_embedding"] == n and r["tokens_seen"] == d), key=lambda r: r["bits_per_byte"])
              for n in SIZES for d in DATA]
    frontier = [{"flops": float(c), "params_non_embedding": n, "tokens_seen": d, "loss": surface(n, d), "lo": surface(n, d) * 0.985,
                 "hi": surface(n, d) * 1.012} for c in budgets for n, d in [optimum(c)]]
    target = record(1_180_000, 8_388_608, 0.003, surface(1_180_000, 8_388_608) * 1.006, role="target")
    target["finished"] = "2026-01-01T00:04:00"
    predicted = surface(1_180_000, 8_388_608)
    low_high = [predicted * 0.985, predicted * 1.012]
    return target, {
        "fit": {"form": "chinchilla", "params": LAW, "level": 0.9, "objective": 0.012, "delta": 1e-3,
                "intervals": {name: [value * 0.9, value * 1.1] for name, value in LAW.items()},
                "points": [{key: r[key] for key in keys} for r in points], "frontier": frontier, "residuals": [],
                "diagnostics": ["All 200 starts reached the same optimum.", "E and B are correlated at 0.83 over the bootstrap."]},
        "forecast": {"time": "2026-01-01T00:02:00", "target": {key: target[key] for key in keys if key != "bits_per_byte"},
                     "predicted": predicted, "interval": low_high, "level": 0.9, "form": "chinchilla", "hash": "9f2d",
                     "compute_ratio": target["flops"] / max(r["flops"] for r in alive), "fit": {"params": LAW}, "records": {}},
        "forecast_check": {"observed": target["bits_per_byte"], "predicted": predicted, "interval": low_high, "inside": True,
                           "error": target["bits_per_byte"] - predicted, "relative_error": 0.006, "time": "2026-01-01T00:04:30",
                           "forecast_hash": "9f2d"},
        "samples": [{"label": label, "params_non_embedding": n, "fingerprint": fp, "prompt": prompt, "text": prompt + text}
                    for prompt in ("def load(path):\n", "import os\n")
                    for label, n, fp, text in (("smallest", SIZES[0], points[0]["fingerprint"], "  se tor _in sethe " * 9 + HOSTILE),
                                               ("largest", 1_180_000, target["fingerprint"], SAMPLE))],
        "study": {"title": "Quickstart: code language models", "command": "python -m experiments.run --config=configs/quickstart.py",
                  "config": "configs/quickstart.py", "metric": "bits_per_byte", "seconds": 247.3, "mfu": 0.31, "git_commit": "abc123",
                  "plan": {"runs": 49, "programs": 5, "flops": 3.1e14, "seconds": 230.0}, "matmul_flops_per_second": 3.6e11,
                  "versions": {"python": "3.11.9", "jax": "0.10.2", "flax": "0.12.8"}}}


SAMPLE = '''    """Return the contents of path as a string."""
    with open(path, "r") as f:
        return f.read()


def save(path, data):
    with open(path, "w") as f:
        f.write(data)
'''


def fill(workdir, runs=None, without=()):
    """Writes a study to `workdir`; `without` names the parts that it lacks."""
    runs = sweep() if runs is None else runs
    target, parts = documents(runs)
    runs = runs + [target]
    rng = np.random.default_rng(1)
    store = Records(workdir)
    for run in runs if "records" not in without else []:
        store.write(run)
    for run in runs if "curves" not in without else []:
        path = workdir / "curves" / f"{run['fingerprint']}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(map(json.dumps, curve(run, rng))))
    for name, content in parts.items():
        if name not in without:
            (workdir / f"{name}.json").write_text(json.dumps(content))
    return runs


class Page(HTMLParser):
    """Parses a page strictly: tags nest and close; collects ids, references and the text of each element."""
    VOID = {"meta", "link", "br", "hr", "img", "input", "path", "use", "rect"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.ids, self.elements, self.references = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.stack, f"never closed: {self.stack}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.references += [(tag, k, v) for k, v in attributes.items() if k in ("href", "src", "srcset", "xlink:href", "data", "action")]
        element = {"tag": tag, "text": "", **attributes}
        self.elements.append(element)
        if tag not in self.VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.stack and self.stack[-1]["tag"] == tag, f"</{tag}> closes {self.stack[-1:]}"
            self.stack.pop()

    def handle_data(self, data):
        for element in self.stack:
            element["text"] += data

    def all(self, tag, **attributes):
        return [e for e in self.elements if e["tag"] == tag and all(e.get(k.strip("_")) == v for k, v in attributes.items())]

    @property
    def text(self):
        return " ".join(self.all("main")[0]["text"].split())


def page_of(workdir):
    """The page without the PNGs, which take most of the time to make."""
    study = report.read(workdir)
    palette = report.colours(study)
    drawn = figures.render(report.captions.plans(study, palette), palette, png=False)
    return report.render(study, palette, drawn)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    runs = fill(workdir)
    path = report.write(workdir)
    return workdir, runs, path.read_text()


def test_the_file_refers_to_nothing_outside_itself(complete):
    _, _, text = complete
    page = Page(text)
    assert all(value.startswith(("#", "data:")) for _, _, value in page.references)
    assert not re.search(r"@import|https?://|url\((?!#)", text)
    policy = page.all("meta")[-1]["content"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy.split("script-src")[1]


def test_the_only_script_allowed_to_run_is_the_one_in_the_file(complete):
    page = Page(complete[2])
    [script] = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script["text"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.all("meta")[-1]["content"]


def test_ids_are_unique_and_every_reference_resolves(complete):
    page = Page(complete[2])
    assert len(page.ids) == len(set(page.ids))
    used = {v[1:] for _, _, v in page.references if v.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", complete[2]))
    assert len(used) > 30 and used <= set(page.ids)


def test_a_complete_study_has_every_section_and_figure(complete):
    workdir, _, text = complete
    page = Page(text)
    assert set(SECTIONS) <= set(page.ids) and not page.all("p", class_="absent")
    assert {f"figure-{name}" for name in FIGURES} <= set(page.ids)
    assert len(page.all("svg")) == len(FIGURES) == len([c for c in page.all("figcaption") if c["text"].endswith(".")])
    for name in FIGURES:
        png = (workdir / "report" / "figures" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20], "big") > 1000


def test_colours_are_those_of_both_schemes(complete):
    text = complete[2]
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", drawings)
    light, dark = re.findall(r":root \{ (--paper[^}]*)\}", text)
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    for scheme in (light, dark):
        assert used - {"--mono", "--good", "--bad", "--wash"} <= set(re.findall(r"(--[\w-]+):", scheme))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_drawn_can_be_told_from_the_background(scheme):
    palette = report.Palette(range(6), range(6))
    colours = dict(getattr(palette, scheme))
    paper = colours.pop("paper")
    del colours["grid"]
    assert min(contrast(colour, paper) for colour in colours.values()) > 3.7
    for name in ("size", "data"):
        ramp = [contrast(colours[f"{name}-{i}"], paper) for i in range(6)]
        assert ramp == sorted(ramp), "more is farther from the background"


def contrast(a, b):
    """Ratio of relative luminances as WCAG 2 defines it, 1 to 21."""
    def luminance(colour):
        channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(w * (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4) for w, x in zip((0.2126, 0.7152, 0.0722), channels))
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_samples_are_shown_as_text_whatever_they_hold(complete):
    page = Page(complete[2])
    shown = [e["text"] for e in page.all("pre") if "class" not in e]
    assert len(shown) == 4 and sum("<script>alert('owned')</script> & </pre>\ufffd\ufffd" in text for text in shown) == 2
    assert sum(SAMPLE in text for text in shown) == 2 and "<script>alert" not in complete[2]


def test_text_from_every_file_is_escaped(tmp_path):
    fill(tmp_path)
    bad = "<img src=x onerror=alert(1)>"
    for name, change in {"study": {"title": bad, "command": bad, "config": bad, "versions": {bad: bad}},
                         "fit": {"diagnostics": [bad]}, "forecast": {"hash": bad}}.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    text = page_of(tmp_path)
    assert not Page(text).all("img") and text.count(html.escape(bad)) >= 7


def test_the_table_holds_the_records(complete):
    _, runs, text = complete
    page = Page(text)
    body = re.search(r'<table class="sortable">.*?</table>', text, re.DOTALL).group()
    headings = [e["text"] for e in Page(f"<main>{body}</main>").all("button")]
    for run in runs:
        row = re.search(rf'<tr id="run-{re.escape(run["fingerprint"])}".*?</tr>', body, re.DOTALL).group()
        cells = dict(zip(headings, Page(f"<main>{row}</main>").all("td")))
        assert len(cells) == len(headings)
        for heading, key in {"Bits per byte": "bits_per_byte", "Params": "params_non_embedding", "Tokens": "tokens_seen",
                             "Learning rate": "learning_rate", "FLOPs": "flops", "Time": "seconds"}.items():
            cell = cells[heading]
            if run["diverged"] and key == "bits_per_byte":
                assert cell["text"] == "diverged at step 17" and cell["data-sort"] == ""
            else:
                assert float(cell["data-sort"]) == run[key]
    assert len(page.all("tr", class_="tuned")) == len(SIZES) * len(DATA)
    assert len(page.all("tr", class_="target")) == len(page.all("tr", class_="diverged")) == 1


def test_the_verdict_is_that_of_the_files(tmp_path):
    fill(tmp_path)
    check = json.loads((tmp_path / "forecast_check.json").read_text())
    assert "The forecast held." in page_of(tmp_path)
    (tmp_path / "forecast_check.json").write_text(json.dumps(check | {"observed": 1.9, "inside": False}))
    text = Page(page_of(tmp_path)).text
    assert "The forecast missed." in text and words.number(1.9 - check["predicted"], 2) in text and "outside its 90% interval" in text
    (tmp_path / "forecast_check.json").unlink()
    assert "not yet checked" in page_of(tmp_path)


@pytest.mark.parametrize("without, said, lost", [
    ("study", "study.json is not in the workdir", ()),
    ("fit", "fit.json is not in the workdir", ("residuals",)),
    ("forecast", "forecast.json is not in the workdir", ("verdict",)),
    ("samples", "samples.json is not in the workdir", ()),
    ("curves", "no training curves", ("curves",)),
    ("records", "no records of runs", ("params", "data", "compute", "curves", "learning-rate")),
])
def test_a_missing_part_is_named_and_the_rest_is_there(tmp_path, without, said, lost):
    fill(tmp_path, without=(without,))
    page = Page(page_of(tmp_path))
    assert set(SECTIONS) <= set(page.ids) and said in page.text
    assert {name for name in FIGURES if f"figure-{name}" not in page.ids} == set(lost)


def test_an_empty_workdir_gives_a_report_that_says_so(tmp_path):
    page = Page(report.write(tmp_path).read_text())
    assert set(SECTIONS) <= set(page.ids) and not page.all("svg") and len(page.all("p", class_="absent")) >= 7


def test_a_damaged_file_is_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "fit.json").write_text('{"form": "chinch')
    curve_file = next((tmp_path / "curves").iterdir())
    curve_file.write_text(curve_file.read_text() + '\n{"step": 9, "tok')
    assert "fit.json cannot be read" in Page(page_of(tmp_path)).text


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_few_runs_are_enough(tmp_path, kept):
    for run in sweep()[:kept]:
        Records(tmp_path).write(run)
    assert Page(page_of(tmp_path)).all("table", class_="sortable")


def test_a_size_of_which_every_run_diverged_is_said_and_survived(tmp_path):
    runs = [run | ({"diverged": True, "diverged_step": 3, "bits_per_byte": None} if run["params_non_embedding"] == SIZES[2] else {})
            for run in sweep()]
    for run in runs:
        Records(tmp_path).write(run)
    text = Page(page_of(tmp_path)).text
    assert text.count("diverged: the fit has no point there") == len(DATA) and not re.search(r"\bnan\b", text, re.IGNORECASE)


@pytest.mark.parametrize("seed", range(5))
def test_monotone_names_exactly_the_planted_violations(tmp_path, seed):
    rng = np.random.default_rng(seed)
    losses = surface(np.array(SIZES)[:, None], np.array(DATA)[None, :]) * (1 + 0.08 * rng.normal(size=(4, 4)))
    runs = [record(n, d, rate, losses[i, j] + extra) for i, n in enumerate(SIZES) for j, d in enumerate(DATA)
            for rate, extra in ((0.001, 0.3), (0.01, 0.0), (0.1, 0.5))]
    for run in runs:
        Records(tmp_path).write(run)
    study = report.read(tmp_path)
    in_size, in_data = report.sections.monotone(study)
    for answer, rises, units in ((in_size, np.argwhere(np.diff(losses, axis=0) >= 0), "parameters"),
                                 (in_data, np.argwhere(np.diff(losses, axis=1) >= 0), "tokens")):
        assert answer["verdict"] == ("no" if len(rises) else "yes")
        assert answer["tally"] == f"it falls at {12 - len(rises)} of 12 steps"
        assert len(answer["against"]) == len(rises)
        for i, j in rises:
            n, d = words.count(SIZES[i]), words.count(DATA[j])
            start = f"at {d} tokens, from {n} to" if units == "parameters" else f"at {n} parameters, from {d} to"
            assert any(sentence.startswith(start) for sentence in answer["against"])


def test_tuned_is_the_least_finite_loss_of_the_sweep(complete):
    _, runs, _ = complete
    cells = report.read(complete[0]).cells
    assert len(cells) == len(SIZES) * len(DATA)
    for _, cell in cells.iterrows():
        rivals = [r["bits_per_byte"] for r in runs if r["role"] == "sweep" and not r["diverged"]
                  and (r["params_non_embedding"], r["tokens_seen"]) == (cell["params_non_embedding"], cell["tokens_seen"])]
        assert cell["bits_per_byte"] == min(rivals)


@pytest.mark.parametrize("best, edge", [(0, "lowest"), (1, ""), (2, "highest")])
def test_a_best_learning_rate_at_the_edge_of_its_sweep_is_said(tmp_path, best, edge):
    for i, rate in enumerate((0.001, 0.01, 0.1)):
        Records(tmp_path).write(record(5_000, 4_096, rate, 2.0 + (i != best)))
    [row] = trends.learning_rates(report.read(tmp_path).runs, "bits_per_byte").to_dict("records")
    assert row["edge"] == edge and row["best"] == (0.001, 0.01, 0.1)[best]
    said = Page(page_of(tmp_path)).text
    assert ("a better one may lie beyond" in said) == bool(edge) and f"the {edge} tried" in said if edge else True


def test_nearly_equal_amounts_of_data_are_one_level():
    levels = trends.levels(pd.Series([1000, 2000, 1010, 995, 2030, 4000])).tolist()
    assert levels == [1000, 2015, 1000, 1000, 2015, 4000]


def test_the_law_drawn_is_the_law_fitted():
    n, d = np.geomspace(1e3, 1e9, 7), 3e6
    np.testing.assert_allclose(trends.predict({"form": "chinchilla", "params": LAW}, n, d), surface(n, d), rtol=1e-12)
    assert trends.predict({"form": "of my own", "params": {}}, n, d) is None and trends.predict(None, n, d) is None


def test_writing_again_gives_the_same_bytes_and_a_failure_keeps_the_old_report(complete, monkeypatch):
    workdir, _, text = complete
    assert page_of(workdir) == text
    monkeypatch.setattr(report, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(workdir)
    assert (workdir / "report" / "index.html").read_text() == text
    assert {p.name for p in (workdir / "report").iterdir()} == {"index.html", "figures"}


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="file"):
        report.write(tmp_path / "file")


@given(st.floats(1e-12, 1e15), st.integers(2, 5))
def test_numbers_mean_what_they_say(value, digits):
    for text in (words.number(value, digits), words.short(value, digits), words.power(value, digits), words.number(-value, digits)):
        plain = text.replace(",", "").replace("−", "-").replace(" × 10", "e")
        plain = plain.replace("10", "1e1", 1) if plain.startswith("10") and any(c in SUPERSCRIPTS for c in plain) else plain
        plain = "".join("-0123456789"[SUPERSCRIPTS.index(c)] if c in SUPERSCRIPTS else c for c in plain)
        assert abs(float(plain)) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits))
        assert (float(plain) < 0) == text.startswith("−")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_are_kept_apart_in_order_and_moved_no_more_than_they_must(heights):
    heights, gap = sorted(heights), 0.05
    moved = plot.spread(heights, gap)
    assert np.all(np.diff(moved) >= gap - 1e-9)
    assert np.mean(moved) == pytest.approx(np.mean(heights))
    if len(heights) < 2 or np.diff(heights).min() >= gap:
        np.testing.assert_allclose(moved, heights)

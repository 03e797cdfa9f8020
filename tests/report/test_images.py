"""The report of a study of images: it counts examples, names distances, and shows samples."""

from __future__ import annotations

import base64
import html
import json
import re

import numpy as np
import pytest
from report_page import Page, page_of, words_of
from report_study import GAN_DATA, GAN_SIZES, GAN_TARGET, fill, fill_images, image_record, picture

from scaling.figures import words
from scaling.report import pictures, plots, reading, sections, study_page
from scaling.results import metrics, tuned
from scaling.results.records import Records
from scaling.store import files


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    fill_images(path)
    return path


@pytest.fixture(scope="module")
def text(workdir):
    return page_of(workdir)


def test_the_page_of_images_speaks_of_examples_and_distances(text):
    page = Page(text)
    assert not re.search(r"\btokens?\b", text) and "bits per byte" not in text
    for said in ("training examples", "unique training examples", f"{words.count(GAN_TARGET[1])} examples",
                 "Does the distance fall with model size at a fixed amount of data?",
                 "Distance against model size, data and compute"):
        assert said in page.text
    assert not re.search(r"\bloss\b", page.text.lower().replace("training loss", ""))


def test_the_page_of_text_speaks_of_tokens(tmp_path):
    fill(tmp_path)
    text = page_of(tmp_path)
    assert not re.search(r"\bexamples?\b", text) and "training tokens" in text


def test_records_give_the_unit_when_study_json_does_not(tmp_path):
    Records(tmp_path).write(image_record(1_000, 4_096, 0.01, 0.1))
    assert reading.read_study(tmp_path).unit.name == "examples"
    (tmp_path / "study.json").write_text(json.dumps({"unit": "frames"}))
    unit = reading.read_study(tmp_path).unit
    assert (unit.name, unit.seen, unit.unique) == ("frames", "frames_seen", "frames_unique")


def test_the_figures_are_all_there(text):
    shown = set(re.findall(r'<figure id="figure-([\w-]+)"', text))
    beside = {f"{name}-{metric}" for name in ("params", "data")
              for metric in ("kid", "missed", "critic_advantage")}
    assert shown == {"verdict", "compute", "params", "data", "unique", "residuals", "learning-rate",
                     "curves-gen", "curves-disc", *beside}
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))


def test_the_law_of_another_metric_has_a_row(workdir, text):
    study = reading.read_study(workdir)
    row = dict(sections.page_content(study)["other_laws"]["rows"])[metrics.find_metric("kid").label]
    low, high = study.fits["kid"]["intervals"]["E"]
    error = (high - low) / 2
    assert row[0].startswith(words.to_error(study.fits["kid"]["params"]["E"], error))
    assert row[0].endswith(f"({words.interval(low, high)})")
    assert "The same law fitted to other metrics" in text
    assert study.showing("kid").law(1e5, 1e5) == pytest.approx(study.law(1e5, 1e5) ** 0.5, rel=0.5)


def test_pictures_are_embedded_as_they_are_by_ascending_size(workdir, text):
    listed = files.read_json(workdir / "pictures.json")
    shown = [base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
             for image in Page(text).all("img")]
    wanted = [(workdir / entry["path"]).read_bytes() for name in ("samples", "interpolations") for entry in
              sorted(listed, key=lambda entry: entry["params_non_embedding"]) if entry["name"] == name]
    assert shown == wanted and len(set(shown)) == 2 * len(GAN_SIZES)
    assert "image-rendering: pixelated" in text and "from the same latents" in Page(text).text


@pytest.mark.parametrize("size", [1, 4, 9])
def test_pictures_are_shown_at_whole_multiples_or_parts_of_their_pixels(size):
    [side] = pictures.grids(reading.StudyFiles(None, None, "fd", None, pictures=[
        {"params_non_embedding": 10, "name": "samples", "png": picture(size=size)}]))[0]["sides"]
    ratio = side["width"] / (8 * size)
    assert max(ratio, 1 / ratio) == pytest.approx(round(max(ratio, 1 / ratio)))
    assert side["width"] / side["height"] == pytest.approx(2) and 180 < side["width"] < 420


def test_only_pictures_inside_the_workdir_are_embedded(workdir, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture())
    inside = tmp_path / "study"
    inside.mkdir()
    (inside / "page.png").write_text("<script>")
    (inside / "good.png").write_bytes(picture(seed=5))
    bad = '"><script>alert(1)</script>'
    (inside / "pictures.json").write_text(json.dumps([
        {"params_non_embedding": 10, "name": bad, "path": path, "fingerprint": bad}
        for path in ("../secret.png", str(secret), "page.png", "none.png", "good.png")]))
    text = page_of(inside)
    [shown] = Page(text).all("img")
    assert base64.b64decode(shown["src"].partition(",")[2]) == picture(seed=5)
    said = Page(text).text
    assert "Some pictures are left out" in said
    assert "../secret.png, /" in said and "page.png, none.png" in said
    assert bad not in text and html.escape(bad).replace("&quot;", "&#34;") in text


def test_metrics_of_single_models_are_a_table_with_standard_errors(workdir, text):
    table = pictures.examination(reading.read_study(workdir))
    assert [column.split(",")[1].strip() for column in table["columns"]] == ["smallest", "largest"]
    bound = dict(table["rows"])["Importance-weighted bound (bits per dimension)"]
    assert bound == ["1.4000 ± 0.0040", "1.3000 ± 0.0040"]
    assert "Importance-weighted bound" in Page(text).text


def test_cells_show_their_errors_and_figures_their_seeds(workdir):
    study = reading.read_study(workdir)
    shown = [cell for _, line in sections.tuned_table(study)["rows"] for cell in line]
    assert len(shown) == len(GAN_SIZES) * len(GAN_DATA) and all(" ± " in cell for cell in shown)
    axes = plots.draw_params(study, study_page.study_palette(study)).axes[0]
    drawn = np.concatenate([line.get_ydata() for line in axes.lines if line.get_markersize() < 3])
    seeds = study.runs[study.runs["fingerprint"].isin(study.cells["fingerprints"].explode())]
    assert set(seeds["fd_infinity"]) <= set(drawn) and (study.cells["seeds"] == 3).all()


def test_floor_and_memoriser_near_the_trend_are_drawn_against_data_only(workdir):
    study = reading.read_study(workdir)
    palette, low = study_page.study_palette(study), study.cells["fd_infinity"].min()
    floor, known = 0.9 * low, {d: low * (1 + 100 / d) for d in (512, 4096, *GAN_DATA)}
    study.baselines = {"floor": {"fd_infinity": floor}, "memoriser": [
        {"examples_unique": d, "fd_infinity": value} for d, value in known.items()]}
    for draw, amounts in ((plots.draw_data, GAN_DATA), (plots.draw_unique, (512, 4096, *GAN_DATA))):
        axes = draw(study, palette).axes[0]
        lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
        assert any(y == [floor, floor] for _, y in lines)
        assert (list(amounts), [known[d] for d in amounts]) in lines
    lines = plots.draw_params(study, palette).axes[0].lines
    assert not any(list(line.get_ydata()) == [floor, floor] for line in lines)


def test_diverged_runs_are_counted_and_explained(workdir, text, tmp_path):
    study = reading.read_study(workdir)
    lost = int(study.runs["diverged"].sum())
    found = sections.diverged_table(study)
    assert sum(int(cell.split()[0]) for _, line in found["rows"] for cell in line) == lost == 6
    assert found["reasons"] == ["The discriminator won: 6 runs"]
    assert "Diverged runs: 6 of 68 runs" in Page(text).text
    Records(tmp_path).write(image_record(1_000, 4_096, 0.01, 0.1))
    assert sections.diverged_table(reading.read_study(tmp_path)) is None and "Diverged runs:" not in words_of(tmp_path).text


def test_samples_judged_in_two_ways_get_a_warning(tmp_path):
    for seed, name in enumerate(("classifier", "pca")):
        run = image_record(1_000, 4_096, 0.01, 0.1, seed)
        Records(tmp_path).write(run | {"judge": {**run["judge"], "name": name}})
        said = "judged in 2 different ways" in words_of(tmp_path).text
        assert said == (seed == 1)


@pytest.mark.parametrize("lowest, scale", [(0.001, "log"), (-0.001, "linear")])
def test_a_distance_has_a_logarithmic_axis_unless_estimates_of_it_are_negative(tmp_path, lowest, scale):
    for size, value in zip((1_000, 8_000, 64_000), (1.0, 0.03, lowest)):
        Records(tmp_path).write(image_record(size, 4_096, 0.01, value))
    (tmp_path / "study.json").write_text(json.dumps({"metric": "kid"}))
    study = reading.read_study(tmp_path)
    axes = plots.draw_params(study, study_page.study_palette(study)).axes[0]
    assert axes.get_yscale() == scale
    assert 2 <= sum(axes.get_ylim()[0] <= tick <= axes.get_ylim()[1] for tick in axes.get_yticks()) <= 12


@pytest.mark.parametrize("form, column, value", [
    ("saturating_power", tuned.PARAMS, 1 + 2), ("saturating_power", "examples_seen", 1 + 0.5),
    ("chinchilla", None, 1 + 2 + 4)])
def test_a_law_of_size_or_data_alone_is_drawn_too(workdir, form, column, value):
    study = reading.read_study(workdir)
    columns = {"x": column} if column else {"N": tuned.PARAMS, "D": "examples_seen"}
    params = {"E": 1.0, "A": 8.0, "alpha": 0.5, "B": 16.0, "beta": 0.25}
    study.fit = {"form": form, "params": params, "columns": columns}
    assert study.law(16.0, 256.0) == pytest.approx(value)
    study.fit["columns"] = {"x": "flops", "N": "flops", "D": "flops"}
    assert study.law(16.0, 256.0) is None


@pytest.mark.parametrize("name", [*metrics.METRICS, "bits_per_dim_character", "of_my_own"])
def test_every_metric_has_words(name):
    metric = metrics.find_metric(name)
    assert metric.label and "_" not in metric.label and metric.noun
    assert metric.amount("1.5").count("1.5") == 1 and metric.falls == metric.fall + "s"
    assert metrics.base_of(name) in (name, "bits_per_dim", None)
    assert ("character" in metric.label) == name.endswith("character")

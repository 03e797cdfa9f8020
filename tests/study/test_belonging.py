"""A workdir belongs to one study: it may grow, and every other change of config, data, version or forecast is refused."""

import json
import shutil

import pytest
import tiny_study

from scaling import experiment as experiments
from scaling.report.reading import read_study
from scaling.results.planned import load_planned
from scaling.results.records import Records
from scaling.store.files import WorkdirError, write_json
from scaling.study import belonging, configs
from scaling.study.belonging import add_measured, admit, define, enter, enter_asked
from scaling.sweeps.runner import Runner, TrainingOptions


@pytest.fixture
def texts(corpus, tmp_path):
    return shutil.copytree(corpus, tmp_path / "texts")


@pytest.fixture
def workdir(tmp_path):
    return Runner(tmp_path / "runs", TrainingOptions()).records.workdir


@pytest.fixture
def defined(texts, workdir):
    """What a study is: the tiny one with some fields of its config changed, and perhaps without a target."""
    def make(target=True, **changes):
        config = tiny_study.get_config()
        config.tokens, config.data.name = (2560, 5120), f"text:{texts}/*.txt"
        config.update_from_flattened_dict(changes)
        study = configs.define_study(tiny_study, config)
        runner = Runner(workdir, TrainingOptions())
        goal = runner.plan([study.target(belonging.NOMINAL_RATE)], 1, "target") if target else None
        return define(study, runner.plan(study.sweep, 2), goal, runner)
    return make


def forecast(workdir, about):
    """Registers a forecast, as far as the question to which study it belongs goes."""
    write_json(workdir / "forecast.json", {
        "metric": "bits_per_byte", "form": "chinchilla", "records": dict.fromkeys(about["runs"][:4], "hash"),
        "target": {"fingerprint": "7a79e7", "experiment": about["target"]["experiment"]}})


# ----- what is allowed


def test_the_same_study_changes_nothing_however_often_it_starts(defined, workdir):
    about = defined()
    enter(workdir, about, {"command": "first"})
    before = (workdir / "study.json").read_bytes()
    assert admit(workdir, defined()) == []
    enter(workdir, defined(), {"command": "second"})
    assert (workdir / "study.json").read_bytes() == before


@pytest.mark.parametrize("grown", [
    {"sizes": (5e3, 9e3, 2e4)}, {"tokens": (2560, 5120, 7680)}, {"learning_rates": (4e-3, 8e-3, 1e-2)}])
@pytest.mark.parametrize("registered", [False, True])
def test_a_study_may_grow_and_its_history_says_so(defined, workdir, grown, registered):
    enter(workdir, first := defined(), {})
    if registered:
        forecast(workdir, first)
    enter(workdir, defined(**grown), {})
    found = json.loads((workdir / "study.json").read_text())
    assert set(first["runs"]) < set(found["runs"])
    [line] = found["history"]
    assert any("runs were added" in change for change in line["changes"])
    with pytest.raises(WorkdirError, match=f"{next(iter(grown))} .* -> .*belongs|belongs.*{next(iter(grown))} .* -> "):
        enter(workdir, first, {})  # the smaller study would leave out runs of the larger one


def test_runs_that_cells_asked_for_are_planned_and_stay(defined, workdir):
    enter(workdir, first := defined(), {})
    enter_asked(workdir, {"a5ed": {}, "a5ed2": {}}, {"budget": 4.0, "spent": 2.0})
    enter_asked(workdir, {"a5ed": {}}, {"budget": 4.0, "spent": 1.0})
    found = json.loads((workdir / "study.json").read_text())
    assert set(found["runs"]) == {*first["runs"], "a5ed", "a5ed2"} and found["bracketing"]["runs"] == ["a5ed", "a5ed2"]
    assert admit(workdir, defined()) == []  # they are no runs of the sweep that it lost
    add_measured(workdir, defined(), {"seconds": 1.0})
    enter(workdir, defined(sizes=(5e3, 9e3, 2e4)), {})
    grown = json.loads((workdir / "study.json").read_text())
    assert set(found["runs"]) < set(grown["runs"]) and grown["bracketing"]["runs"] == ["a5ed", "a5ed2"]
    assert grown["seconds"] == 1.0
    mine = defined(sizes=(5e3, 9e3, 2e4))
    enter(workdir, mine | {"runs": sorted([*mine["runs"], "a5ed"])}, {})  # the sweep has one of them now
    assert json.loads((workdir / "study.json").read_text())["bracketing"]["runs"] == ["a5ed2"]
    with pytest.raises(WorkdirError, match="leaves out 1 of the study's"):
        enter(workdir, mine, {})


def test_seeds_may_be_added_and_not_replaced(defined, workdir, monkeypatch):
    def seeds(*numbers):
        monkeypatch.setattr(tiny_study, "sweep", lambda config, sweep=tiny_study_sweep: experiments.grid(
            sweep(config), {"seed": list(numbers)}))
        return defined()
    enter(workdir, seeds(0), {})
    enter(workdir, seeds(0, 1), {})
    with pytest.raises(WorkdirError, match="the sweep of the config file leaves out 8 of the study's 16 runs"):
        enter(workdir, seeds(1, 2), {})


tiny_study_sweep = tiny_study.sweep


@pytest.mark.parametrize("change", [
    {"title": "Another title"}, {"tune": 0.5}, {"fit_edges": True},
    {"prompts": ("def ", "x")}, {"beside": ("loss",)}, {"microbatch": 2},
    {"data.feed": "streamed"}, {"layout": "fsdp"}])
def test_fields_that_change_no_result_take_the_new_value(defined, workdir, change):
    enter(workdir, first := defined(), {})
    forecast(workdir, first)
    enter(workdir, defined(**change), {})
    found = json.loads((workdir / "study.json").read_text())
    [(name, value)] = change.items()
    config = found["config"]
    for part in name.split("."):
        config = config[part]
    assert found["runs"] == first["runs"] and config == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("change", [{"metric": "loss"}, {"law": "kaplan"}, {"target_tokens": 20_480}, {"target_size": 3e4}])
def test_what_is_forecast_may_change_until_a_forecast_is_registered(defined, workdir, change):
    enter(workdir, first := defined(), {})
    enter(workdir, defined(**change), {})
    enter(workdir, first, {})
    forecast(workdir, first)
    [name] = change
    name = {"target_tokens": "target's data.tokens", "target_size": "target's family.width"}.get(name, name)
    with pytest.raises(WorkdirError, match=f"belongs to another study: {name} .* -> "):
        enter(workdir, defined(**change), {})


def test_a_target_may_not_leave_a_registered_forecast(defined, workdir):
    enter(workdir, first := defined(), {})
    enter(workdir, defined(target=False), {})
    enter(workdir, first, {})
    forecast(workdir, first)
    with pytest.raises(WorkdirError, match="the config has no target"):
        enter(workdir, defined(target=False), {})


# ----- what is refused


@pytest.mark.parametrize("change, says", [
    ({"optim.weight_decay": 0.05}, "optim.weight_decay 0.1 -> 0.05"),
    ({"data.length": 16, "optim.warmup": 8}, "data.length 32 -> 16; optim.warmup 4 -> 8"),
    ({"data.evaluation_tokens": 512}, "data.evaluation_tokens 1,024 -> 512"),
    ({"sizes": (5e3,)}, r"sizes \[5000.0, 9000.0\] -> \[5000.0\]"),
    ({"seed": 7}, "seed 0 -> 7"),
    ({"family.activation": "gelu"}, "family.activation swiglu -> gelu"),
])
def test_another_config_is_refused_with_the_fields_that_differ(defined, workdir, change, says):
    enter(workdir, defined(), {})
    before = (workdir / "study.json").read_bytes()
    with pytest.raises(WorkdirError, match=f"belongs to another study: .*{says}.*--workdir=NEW --fork="):
        enter(workdir, defined(**change), {})
    assert (workdir / "study.json").read_bytes() == before


def test_another_corpus_is_refused_by_its_name(defined, workdir, texts):
    enter(workdir, defined(), {})
    with pytest.raises(WorkdirError, match=r"data.name text:.*\*.txt -> text:.*/0\*.txt"):
        enter(workdir, defined(**{"data.name": f"text:{texts}/0*.txt"}), {})


def test_edited_data_are_refused_until_they_are_restored(defined, workdir, texts):
    enter(workdir, first := defined(), {})
    forecast(workdir, first)
    path = texts / "07.txt"
    whole = path.read_text()
    path.write_text(whole + "one more line\n")
    with pytest.raises(WorkdirError, match="the data of the study in .* have changed: text:.* -> .*restore the data"):
        enter(workdir, defined(), {})
    path.write_text(whole)
    enter(workdir, defined(), {})


def test_what_was_found_in_edited_data_is_compared(defined, workdir):
    """Sources say what they found; a different Python has another standard library."""
    about = defined()
    lost = about | {"runs": ["another"], "data": [about["data"][0] | {
        "fingerprint": "old", "contents": {"documents": 1060, "left_out": {"empty": 1}}}]}
    enter(workdir, lost, {})
    changed = about | {"data": [about["data"][0] | {"contents": {"documents": 59, "left_out": {"empty": 2}}}]}
    with pytest.raises(WorkdirError, match=r"documents 1,060 -> 59, left_out.empty 1 -> 2"):
        enter(workdir, changed, {})
    library = {"name": "pycode/stdlib", "fingerprint": "new", "contents": {}}
    enter(workdir.parent / "python", lost | {"data": [library | {"fingerprint": "old"}]}, {"versions": {"python": "3.1.4"}})
    with pytest.raises(WorkdirError, match=r"pycode/stdlib: Python 3.1.4 -> 3\.[0-9.]+, whose source the data are"):
        enter(workdir.parent / "python", about | {"data": [library]}, {})


def test_another_results_version_is_refused(defined, workdir, monkeypatch):
    enter(workdir, defined(), {})
    now = defined()
    with pytest.raises(WorkdirError, match="results version 5 -> 99, so that runs have other results"):
        enter(workdir, now | {"runs": ["renamed"], "results_version": 99}, {})


def test_a_workdir_of_an_earlier_version_belongs_to_the_study_of_its_forecast(defined, workdir):
    first = defined()
    Records(workdir).write({"fingerprint": "0ld", "role": "sweep", "data_fingerprint": "before"})
    assert admit(workdir, first) == []  # nothing says whose it is
    forecast(workdir, first)
    assert admit(workdir, first) == []
    for change, says in [({"metric": "loss"}, "metric bits_per_byte -> loss"), ({"law": "kaplan"}, "chinchilla -> kaplan"),
                         ({"fix": "E=1"}, "fix {} -> {'E': 1.0}"),
                         ({"optim.beta1": 0.8}, "results version 3 -> 5"),
                         ({"target_tokens": 20_480}, "target's data.tokens")]:
        with pytest.raises(WorkdirError, match=says):
            admit(workdir, defined(**change))
    write_json(workdir / "forecast.json", {"metric": "bits_per_byte", "records": {"0ld": "hash"}, "target": {}})
    with pytest.raises(WorkdirError, match="fingerprint before -> "):
        admit(workdir, first)


def test_a_damaged_study_file_is_named(defined, workdir):
    enter(workdir, about := defined(), {})
    (workdir / "study.json").write_text("{")
    with pytest.raises(WorkdirError, match="study.json"):
        enter(workdir, about, {})


# ----- what is read


def test_tables_and_pages_read_the_runs_of_the_plan_only(defined, workdir):
    """A workdir of an earlier version may hold the runs of two studies."""
    about = defined()
    forecast(workdir, about)
    enter(workdir, about, {})
    plain = {"role": "sweep", "bits_per_byte": 2.0, "params_non_embedding": 6000, "tokens_seen": 2560, "flops": 1e6}
    for name in (*about["runs"][:3], "7a79e7", "0ther", "0ther2"):
        Records(workdir).write(plain | {"fingerprint": name})
    Records(workdir).write(plain | {"fingerprint": "be91n", "role": "start"})  # what a run of this study stands on
    table, others = load_planned(workdir)
    assert set(table["fingerprint"]) == {*about["runs"][:3], "7a79e7"} and others == 2
    read = read_study(workdir)
    assert set(read.runs["fingerprint"]) == set(table["fingerprint"]) and read.others == 2
    (workdir / "study.json").unlink()
    assert len(load_planned(workdir)[0]) == 7 and read_study(workdir).others == 0

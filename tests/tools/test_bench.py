"""tools.bench with tiny sizes: every part that needs no torch measures something, in turn, and says what was left out."""

import io
import json
import os
import pathlib
import subprocess
import sys
import time
import types

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is run from a checkout and not installed

from scaling.study import configs  # noqa: E402
from tools import _bench_cases as cases  # noqa: E402
from tools import _bench_parts, _bench_workers, bench  # noqa: E402


def run(*argv, devices=2):
    """Runs the command in a process of its own: its standard output."""
    environment = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
                                "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "tools.bench", "--small", *argv], cwd=ROOT, text=True, env=environment,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "all.json"
    said = run("--parts=rates,compile,attention,microbatch", "--sizes=tiny", "--peers=nanodo", "--seconds=0.05",
               "--repeats=2", f"--output={path}")
    return said, json.loads(path.read_text())


@pytest.mark.slow
def test_every_part_is_measured_printed_and_written(small):
    said, content = small
    parts = {found["part"] for found in content["measurements"]}
    assert parts == {"rates", "compile", "attention", "microbatch"}
    assert {found["what"] for found in content["measurements"] if found["part"] == "rates"} == {
        "tiny, one run", "tiny, 2 packed runs"}
    assert all(f"{found['part']}: {found['what']}: " in said for found in content["measurements"])
    assert content["notes"] == ["nanodo is left out: there is no checkout of it; --nanodo=/path/to/nanodo names one"]
    assert content["notes"][0] in said and " of " in content["machine"]


@pytest.mark.slow
def test_a_figure_is_the_median_of_its_repeats(small):
    for found in small[1]["measurements"]:
        ours = found["ours"]
        assert len(ours["values"]) == 2 and min(ours["values"]) > 0
        assert ours["low"] == min(ours["values"]) <= ours["median"] <= max(ours["values"]) == ours["high"]
    [one] = [found for found in small[1]["measurements"] if found["what"] == "tiny, one run" and found["part"] == "rates"]
    assert one["unit"] == "tokens/s" and one["mfu"]["low"] > 0 and len(one["mfu"]["values"]) == 2
    [attention] = [found for found in small[1]["measurements"] if found["part"] == "attention"]
    pairs = zip(attention["ours"]["values"], attention["peers"]["XLA's"]["values"], strict=True)
    assert attention["ratios"]["XLA's"]["values"] == pytest.approx([xla / ours for ours, xla in pairs])


@pytest.mark.slow
def test_the_chosen_microbatch_is_compared_with_all_others(small):
    """A batch of 4, of which each of two devices has two examples in one run, and all four in packed runs."""
    found = {each["what"]: each for each in small[1]["measurements"] if each["part"] == "microbatch"}
    assert [each["chosen"] for each in found.values()] == [2, 4]
    assert {what: set(each["ratios"]) for what, each in found.items()} == {
        "tiny, 1 run": {"1 example", "2 examples"}, "tiny, 2 runs": {"1 example", "2 examples", "4 examples"}}


class Contestant:
    def __init__(self, name, log, others=()):
        self.name, self.log, self.shares, self.others = name, log, list(others), 0.0

    def measure(self):
        self.log.append(self.name)
        self.others = self.shares.pop(0) if self.shares else 0.0
        return float(len(self.log))


def test_contestants_take_turns_forwards_and_backwards():
    log: list[str] = []
    sides = [Contestant(name, log) for name in ("ours", "torch", "nanodo")]
    found, others = _bench_workers.in_turn(sides, 3)
    assert log == ["ours", "torch", "nanodo", "nanodo", "torch", "ours", "ours", "torch", "nanodo"]
    assert found == {"ours": [1, 6, 7], "torch": [2, 5, 8], "nanodo": [3, 4, 9]}  # pairs of one repeat stay together
    assert others == 0.0


def test_the_quietest_repeats_count():
    """Repeats while others use the cores are done again, until there are enough quiet ones or twice as many in all."""
    found, others = _bench_workers.in_turn([Contestant("ours", [], (0.0, 0.5, 0.2, 0.01))], 2)
    assert found == {"ours": [1, 4]} and others == 0.01
    found, others = _bench_workers.in_turn([Contestant("ours", [], (0.9, 0.5, 0.7, 0.6))], 2)
    assert found == {"ours": [2, 4]} and others == 0.6


def test_only_work_on_the_processors_that_the_command_may_use_counts_as_that_of_others(monkeypatch):
    ticks = {0: 0, 1: 0}
    monkeypatch.setattr(_bench_workers.os, "sched_getaffinity", lambda _: {1}, raising=False)
    monkeypatch.setattr(_bench_workers, "open", lambda _: io.StringIO(
        f"cpu {sum(ticks.values())} 0 0 9 0 0 0 0\n" + "".join(
            f"cpu{number} {busy} 0 0 9 0 0 0 0 0 0\n" for number, busy in ticks.items())), raising=False)
    before = _bench_workers.busy_seconds()
    ticks[0] += 1000
    assert _bench_workers.busy_seconds() == before
    ticks[1] += 1000
    assert _bench_workers.busy_seconds() > before


@pytest.mark.parametrize("argv", [["--parts=startup"], []])
def test_processor_time_measures_rates_on_one_core_alone(argv, monkeypatch, capsys):
    monkeypatch.setattr(bench, "cores", lambda: 1 if argv else 2)
    with pytest.raises(SystemExit):
        bench.main([*(argv or ["--parts=rates"]), "--clock=processor"])
    assert "--clock=processor measures rates on one core" in capsys.readouterr().err


def test_waiting_takes_no_processor_time():
    """Whatever sleeps, as a worker does while others have the core, is as fast by this clock as what does not."""
    took = {}
    for name, clock in _bench_workers.CLOCKS.items():
        start = clock()
        time.sleep(0.05)
        took[name] = clock() - start
    assert took["processor"] < 0.5 * took["wall"]


def test_when_the_time_is_up_every_contestant_has_been_measured_equally_often():
    log: list[str] = []
    found, _ = _bench_workers.in_turn([Contestant("ours", log), Contestant("torch", log)], 100, until=0.0)
    assert found == {"ours": [1], "torch": [2]}


class Team:
    left_out, peers, clock = (), (), "wall"


def made(**changes):
    _, flags = bench.parse(["--small"])
    flags.command = "a test"
    for name, value in changes.items():
        setattr(flags, name, value)
    return bench.Bench(flags, Team())


def test_a_ratio_above_one_says_that_the_package_is_better():
    measured = made()
    measured.add("rates", "S0", "tokens/s", [20.0, 30.0], {"torch": [10.0, 10.0]})
    measured.add("sweeps", "sizes", "s", [20.0, 30.0], {"torch": [60.0, 60.0]})
    rates, seconds = (found["ratios"]["torch"] for found in measured.measurements)
    assert (rates["low"], rates["median"], rates["high"]) == (2.0, 2.5, 3.0)
    assert (seconds["low"], seconds["median"], seconds["high"]) == (2.0, 2.5, 3.0)


def test_a_command_that_is_stopped_keeps_its_results(tmp_path):
    measured = made(output=tmp_path / "all.json")
    measured.add("rates", "S0", "tokens/s", [20.0], {})
    assert [found["what"] for found in json.loads((tmp_path / "all.json").read_text())["measurements"]] == ["S0"]


def test_what_fails_is_said_and_the_rest_goes_on(capsys):
    measured = made()

    def fails(bench):
        raise _bench_workers.Failed("torch: it has no memory")

    measured.attempt("S0", fails)
    measured.attempt("S1", lambda bench: bench.add("rates", "S1", "tokens/s", [1.0], {}))
    made(budget_seconds=-1.0).attempt("S2", fails)
    said = capsys.readouterr().out
    assert "S0: torch: it has no memory" in said and "S2: left out, the time is up" in said
    assert [found["what"] for found in measured.measurements] == ["S1"]


def test_what_other_modules_measure_is_taken_number_by_number():
    measured = made()
    _bench_parts._dictionary(measured, "startup", "cold", {"seconds": [2.0, 3.0], "note": "two", "import": 0.1}, "s")
    assert [(found["what"], found["ours"]["median"]) for found in measured.measurements] == [
        ("cold seconds", 2.5), ("cold import", 0.1)]


def test_a_command_is_started_several_times(monkeypatch):
    seconds = iter([10.0, 12.0, 11.0, 2.0, 3.0, 2.5])
    monkeypatch.setattr(_bench_parts, "_elsewhere", lambda *_, **__: {"end": next(seconds)})
    found = {}
    asked = types.SimpleNamespace(repeats=5, say=lambda text: None,
                                  add=lambda part, what, unit, ours, theirs: found.update({what: ours}))
    _bench_parts.startup(asked)
    assert found == {"cold end": [10.0, 12.0, 11.0], "warm end": [2.0, 3.0, 2.5]}


def test_flags_that_name_nothing_are_refused(tmp_path, capsys):
    for argv, word in ((["--parts=rate"], "'rate'"), (["--sizes=S9"], "'S9'"), ([f"--nanodo={tmp_path}"], "--nanodo"),
                       (["--repeats=0"], "--repeats"), (["--add=nowhere.json"], "--add")):
        with pytest.raises(SystemExit):
            bench.main(argv)
        assert word in capsys.readouterr().err


@pytest.mark.parametrize("sweep", [*cases.SWEEPS, *cases.TINY_SWEEPS], ids=lambda sweep: sweep.name)
def test_the_config_of_a_sweep_makes_its_runs(sweep):
    module = configs.load_config("tools/_bench_config.py:" + sweep.name.replace(" ", "_"))
    runs = module.sweep(module.get_config(sweep.name.replace(" ", "_")))
    assert len(runs) == sweep.runs == len(set(runs)) == len(sweep.launches) * sweep.rates
    sizes = {(run.family.width, run.family.layers, run.family.heads, run.data.batch, run.data.length) for run in runs}
    assert sizes == {(m.width, m.layers, m.heads, m.batch, m.length) for m in sweep.models}
    assert {run.data.tokens for run in runs} == set(sweep.tokens)
    assert all(tokens % model.per_step == 0 for model, tokens in sweep.launches)  # peers take the same number of steps


@pytest.mark.slow
def test_sweeps_are_timed_until_their_last_record_and_images_packs_and_memory_are_measured(tmp_path):
    path = tmp_path / "sweeps.json"
    run("--parts=rates,sweeps,packing,memory", "--sizes=vae/*", "--peers=nanodo", "--seconds=0.05", "--repeats=1",
        f"--output={path}")
    found = {(f["part"], f["what"]): f["ours"]["median"] for f in json.loads(path.read_text())["measurements"]}
    assert found.keys() == {("rates", "vae/tokens/tiny, one run"), ("rates", "vae/tokens/tiny, 2 packed runs"),
                            ("packing", "tiny, 1 packed"), ("packing", "tiny, 2 packed"),
                            ("sweeps", "tiny, 2 runs"), ("memory", "vae/tokens/tiny, one run")}
    assert min(found.values()) > 0 and found["memory", "vae/tokens/tiny, one run"] > 1e7

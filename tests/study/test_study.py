"""A whole study as a user starts it: real processes that are killed, resumed, raced, and given wrong input."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from launcher import ROOT, results

from scaling import laws
from scaling.devices import exits
from scaling.results import records
from scaling.store import files


@pytest.fixture(scope="session")
def start(flags_of, environment):
    """Starts the launcher."""
    def launch(workdir, *more):
        command = [sys.executable, "-m", "experiments.run", *flags_of(workdir, *more)]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, preexec_fn=_heed_interrupts)
    return launch


def _heed_interrupts():
    """A shell's background jobs ignore SIGINT, and so would every process that tests start from there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process, code=0):
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, err[-3000:]
    return out, err


def sweep_of(workdir):
    """The results of a study, without its target."""
    return {name: record for name, record in results(workdir).items() if record["role"] == "sweep"}


@pytest.fixture(scope="session")
def finished(start, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "study"
    out, _ = finish(start(workdir))
    assert str(workdir / "report" / "index.html") in out.splitlines()[-1]
    return workdir


def test_a_study_leaves_records_a_fit_a_checked_forecast_and_a_report(finished):
    frame = records.load_records(finished)
    assert len(frame) == 17 and (frame["role"] == "target").sum() == 1 and not frame["diverged"].any()
    needed = ["family", "family.width", "params_total", "params_non_embedding", "tokens_seen", "tokens_unique", "flops",
              "flops_6nd", "learning_rate", "seed", "bits_per_byte", "seconds", "device_seconds",
              "versions.jax", "versions.machine", "data_fingerprint"]
    assert frame[needed].notna().all().all()
    assert (frame["bits_per_byte"] < 8).all() and frame["bits_per_byte"].nunique() == 17
    forecast = json.loads((finished / "forecast.json").read_text())
    check = json.loads((finished / "forecast_check.json").read_text())
    target = frame[frame["role"] == "target"].iloc[0]
    assert target["fingerprint"] == forecast["target"]["fingerprint"] not in forecast["records"]
    assert check["observed"] == target["bits_per_byte"] and check["predicted"] == forecast["predicted"]
    assert target["finished"] >= forecast["time"] >= frame[frame["role"] == "sweep"]["finished"].max()
    samples = files.read_json(finished / "samples.json")
    assert {s["label"] for s in samples} == {"smallest", "largest"} and all(s["text"] for s in samples)
    assert (finished / "report" / "index.html").read_text().count("<svg") >= 4
    assert not list((finished / "checkpoints").glob("*/*/*"))


def test_study_json_lists_every_run_with_the_logs_that_its_curve_is_joined_from(finished):
    listed = files.read_json(finished / "study.json")["planned"]
    frame = records.load_records(finished).set_index("fingerprint")
    assert {name for name, about in listed.items() if about["role"] == "sweep"} == {*frame.index[frame["role"] == "sweep"]}
    logs = {path.stem for path in (finished / "logs").iterdir()}
    for name, run in frame[frame["role"] == "sweep"].iterrows():
        about = listed[name]
        assert {f"{about['trunk']}-trunk", f"{about['trunk']}-branch-{about['steps']}"} <= logs
        assert (about["params_non_embedding"], about["tokens_seen"], about["learning_rate"], about["steps"]) == (
            run["params_non_embedding"], run["tokens_seen"], run["learning_rate"], run["steps"])
        assert about["steps"] * about["flops_executed_per_step"] == run["flops_executed"]


def test_more_training_helps_in_every_tuned_comparison_of_the_shortest_and_longest_runs(finished):
    frame = records.load_records(finished)
    best = frame[frame["role"] == "sweep"].groupby(["params_non_embedding", "tokens_seen"])["bits_per_byte"].min().unstack()
    assert (best.iloc[:, -1] < best.iloc[:, 0]).all()


def test_running_again_trains_nothing_and_changes_nothing(finished, start):
    before = {p: p.read_bytes() for p in [*finished.glob("records/*"), *finished.glob("forecast*")]}
    assert len(before) == 17 + 3  # the forecast, its score, and their log
    clock = time.time()
    finish(start(finished))
    assert all(p.read_bytes() == content and p.stat().st_mtime < clock for p, content in before.items())


@pytest.mark.slow
def test_a_study_killed_at_random_moments_and_resumed_equals_an_uninterrupted_one_bit_for_bit(finished, start, tmp_path):
    rng, workdir, kills = random.Random(time.time_ns()), tmp_path / "killed", 0
    process = start(workdir, "--checkpoint_seconds=1000")  # the first process gets SIGTERM, and saves
    while not list(workdir.glob("logs/*.jsonl")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = finish(process, code=exits.RESTART)
    assert "everything is saved" in err and "Traceback" not in err
    # The pack may have been in its last call, and then its runs have records.
    assert list(workdir.glob("checkpoints/*/*/*")) or list(workdir.glob("records/*"))
    for _ in range(40):
        process = start(workdir, "--checkpoint_seconds=0")
        try:
            _, err = process.communicate(timeout=rng.uniform(*(6, 25) if kills else (4, 7)) if kills < 2 else 400)
            assert process.returncode == 0, err[-3000:]
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
    assert kills > 0
    assert results(workdir) == results(finished)
    curves = {p.name: p.read_text() for p in sorted((finished / "curves").iterdir())}
    assert {p.name: p.read_text() for p in sorted((workdir / "curves").iterdir())} == curves


def test_an_interrupt_prints_one_line_and_the_next_command_resumes(finished, start, tmp_path):
    workdir = tmp_path / "interrupted"
    process = start(workdir, "--shard=0/1")
    while not list(workdir.glob("records/*.jsonl")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = finish(process, code=130)
    assert "run the same command again" in err and "Traceback" not in err
    kept = results(workdir)
    finish(start(workdir, "--shard=0/1"))
    assert kept and kept.items() <= results(workdir).items() and results(workdir) == sweep_of(finished)


@pytest.mark.slow
def test_two_processes_share_a_workdir(finished, start, tmp_path):
    both = [start(tmp_path / "shared") for _ in range(2)]
    for process in both:
        finish(process)
    assert results(tmp_path / "shared") == results(finished)


@pytest.mark.slow
def test_shards_together_train_the_sweep_and_nothing_else(finished, start, tmp_path):
    workdirs = [tmp_path / "shard-0", tmp_path / "shard-1"]  # as on machines without a shared file system
    workdir, other = workdirs
    for process in [start(path, f"--shard={index}/2") for index, path in enumerate(workdirs)]:
        finish(process)
    trained = [set(results(path)) for path in workdirs]
    assert all(trained) and not trained[0] & trained[1] and trained[0] | trained[1] == sweep_of(finished).keys()
    assert not any((path / "forecast.json").exists() for path in workdirs)
    for folder in ("records", "params", "curves"):
        shutil.copytree(other / folder, workdir / folder, dirs_exist_ok=True)
    finish(start(workdir))
    assert results(workdir) == results(finished)


def test_a_forecast_whose_records_changed_is_refused(finished, start, tmp_path):
    workdir = tmp_path / "changed"
    subprocess.run(["cp", "-r", finished, workdir], check=True)
    (workdir / "forecast_check.json").unlink()
    forecast = json.loads((workdir / "forecast.json").read_text())
    name = sorted(forecast["records"])[0]
    path = workdir / "records" / f"{name}.jsonl"
    record = json.loads(path.read_text())
    del record["digest"]  # with it the record would be damaged, and its run trained again
    path.write_text(json.dumps(record | {"bits_per_byte": record["bits_per_byte"] * 0.9}) + "\n")
    _, err = finish(start(workdir), code=1)
    assert name in err and "Traceback" not in err
    with pytest.raises(laws.LawError, match=name):
        laws.forecast.check(workdir / "forecast.json", 1.0, laws.record_hashes(
            [files.loads_line(p.read_bytes().splitlines()[-1]) for p in workdir.glob("records/*.jsonl")]))


@pytest.mark.slow
def test_only_the_run_of_a_torn_record_is_trained_again(finished, start, tmp_path):
    workdir = tmp_path / "torn"
    subprocess.run(["cp", "-r", finished, workdir], check=True)
    longest = max(sweep_of(finished).values(), key=lambda record: record["tokens_seen"])  # it goes on from a kept trunk
    victim = workdir / "records" / f"{longest['fingerprint']}.jsonl"
    whole = victim.read_bytes()
    for path in ("forecast.json", "forecast_check.json"):
        (workdir / path).unlink()
    victim.write_bytes(whole[:len(whole) // 2])
    _, err = finish(start(workdir))
    assert victim.name in err
    assert results(workdir) == results(finished)


REFUSED = [  # of each way to be refused one; test_preflight.py has the others
    (["--config.optim.weight_decy=0.1"], 2, "--config.optim.weight_decay"),
    (["--config.lenght=3"], 2, "--config.data.length"),
    (["--config.data.batch=7"], 1, "data.batch=8"),
    (["--config.data.name=text:/nowhere/*.txt"], 1, "/nowhere/*.txt"),
    (["--config.data.name=pycode/stdlb"], 1, "pycode/stdlib"),
    (["--config.optim.schedule='wds'"], 1, "wsd"),
    (["--mesh=data=3"], 1, "3"),
    (["--shard=2/2"], 2, "must be i/n with 0 <= i < n"),
    (["--config.data.name=text:{room}/empty.txt"], 1, "empty.txt"),
    (["--workdir={room}/file"], 1, "is a file"),
    (["--fork={room}/nowhere"], 1, "is not a directory"),
    (["--pack=-1"], 2, "pack"),
    (["--keep_checkpoints=0"], 2, "keep_checkpoints"),
    (["--log_every=0"], 2, "log_every"),
    (["--checkpoint_seconds=-1"], 2, "checkpoint_seconds"),
]
STARTS = """
import json, os, runpy, sys
from experiments import _config_flags, _environment
from scaling import experiment
from scaling.study import study  # imports most modules once, for all the processes
experiment.from_config(experiment.config("transformer", **{"family.size": 5e3}))  # and finds the ladder of sizes once
for flags, said in json.load(sys.stdin):
    if not os.fork():
        for stream in (1, 2):
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.argv = ["run", *flags]
        runpy.run_module("experiments.run", run_name="__main__", alter_sys=True)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture(scope="session")
def refusals(flags_of, environment, tmp_path_factory):
    """[(exit code, output)] of the launcher with each of REFUSED. The processes share their imports."""
    room = tmp_path_factory.mktemp("refused")
    (room / "empty.txt").write_text("")
    (room / "file").write_text("")
    starts = []
    for i, (more, *_) in enumerate(REFUSED):
        flags = flags_of(room / str(i), "--pack=1", *(flag.format(room=room) for flag in more))
        starts.append((flags, f"{room}/said{i}"))
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", STARTS], input=json.dumps(starts), cwd=ROOT,
                         env=environment, capture_output=True, text=True, timeout=400)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [(int(code), (room / f"said{i}").read_text()) for i, code in enumerate(ran.stdout.split())]


@pytest.mark.parametrize("index", range(len(REFUSED)), ids=[" ".join(flags) for flags, *_ in REFUSED])
def test_bad_input_is_one_sentence_that_says_what_to_write(refusals, index):
    (code, printed), (_, wanted, said) = refusals[index], REFUSED[index]
    line = [x for x in printed.splitlines() if x.startswith("error:")]
    assert code == wanted and len(line) == 1 and said in line[0] and "Traceback" not in printed


def test_a_dry_run_prints_the_plan_and_what_is_done_and_creates_nothing(finished, start, tmp_path):
    out, _ = finish(start(tmp_path / "w", "--dry_run"))
    assert "17 runs in 3 compiled programs" in out and "FLOPs" in out and "60 documents" in out and "no repeats" in out
    assert not (tmp_path / "w").exists()
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    out, _ = finish(start(finished, "--dry_run", "--config.sizes=(5e3,9e3,2e4)"))
    assert "16 of the sweep's 24 runs are done, 0 are under way, 8 are left" in out
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_command_whose_output_nobody_reads_ends_well(start, tmp_path):
    process = start(tmp_path / "w", "--dry_run")
    process.stdout.close()
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0 and "Traceback" not in err and "BrokenPipe" not in err, err[-3000:]


@pytest.mark.slow
def test_a_fork_has_the_bits_of_the_study_and_a_forecast_of_its_own(finished, start, tmp_path):
    workdir = tmp_path / "forked"
    out, _ = finish(start(workdir, f"--fork={finished}"))
    assert "copied 16 finished runs" in out and results(workdir) == results(finished)
    forecasts = [json.loads((path / "forecast.json").read_text()) for path in (workdir, finished)]
    assert forecasts[0]["time"] > forecasts[1]["time"] and forecasts[0]["predicted"] == forecasts[1]["predicted"]
    _, err = finish(start(workdir, "--config.optim.beta1=0.8"), code=1)
    assert "belongs to another study: optim.beta1 0.9 -> 0.8" in err and "Traceback" not in err


def test_tiny_losses_are_golden(finished):
    """A change of these losses is a change of the results of every experiment. Then raise RESULTS_VERSION, and write the
    new losses with `SCALING_GOLDEN="why they changed" pytest tests/study/test_study.py -k golden`."""
    path, reason = ROOT / "tests" / "study" / "golden.json", os.environ.get("SCALING_GOLDEN")
    frame = records.load_records(finished).sort_values(["role", "params_non_embedding", "learning_rate", "tokens_seen"])
    found = frame[frame["role"] == "sweep"]["bits_per_byte"].to_list()
    if reason:
        golden = {"reason": reason, "versions": records.versions(), "bits_per_byte": found}
        path.write_text(json.dumps(golden, indent=1) + "\n")
    golden = json.loads(path.read_text())
    # Other processors round differently, and a few hundred steps of training amplify the difference.
    message = f"{golden['reason']}, {golden['versions']}"
    np.testing.assert_allclose(found, golden["bits_per_byte"], rtol=5e-3, err_msg=message)

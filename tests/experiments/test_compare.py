"""experiments.compare from the command line: two trained recipes, finished workdirs, tables, given speed-ups, refusals."""

import json
import pathlib
import signal
import sys

import numpy as np
import pytest
from absl.testing import flagsaver
from boxed_flags import Box
from planted_recipes import Planted, table
from report_study import image_sweep, sweep

from scaling.results import records

with (BOX := Box()):
    from experiments import compare
    from experiments._config_flags import refuse_unknown
    from scaling.study import study, two_studies

ROOT = pathlib.Path(__file__).parents[2]


def ask(*arguments):
    """The command in this process."""
    with BOX, flagsaver.flagsaver():
        compare.main(refuse_unknown(["compare", *map(str, arguments)])[:1])


def refused(capsys, *arguments):
    """(exit status, the one sentence) of a command that is refused."""
    with pytest.raises(SystemExit) as left:
        ask(*arguments)
    [said] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return left.value.code, said.removeprefix("error: ")


def ladder_flags(which, corpus):
    return [f"--{which}={ROOT}/tests/tiny_ladder.py", f"--{which}.data.name=text:{corpus}/*.txt"]


def image_flags(which, family, rate):
    """A ladder of one size and two seeds on three amounts of images."""
    fields = {"sizes": "(1e4,)", "learning_rates": f"({rate},)", "examples": "(64,128,256)", "seeds": "(0,1)"}
    return [f"--{which}={ROOT}/tests/tiny_images.py:{family}", *(f"--{which}.{name}={it}" for name, it in fields.items())]


@pytest.fixture
def quick(monkeypatch):
    """Studies that measure nothing of this machine and write no pages, which takes seconds; and signals as they were."""
    for name in ("matmul_rate", "known_matmul_rate"):
        monkeypatch.setattr(study, name, lambda: 1e11)
    monkeypatch.setattr(study.report, "write", lambda workdir: workdir / "report")
    heed = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, heed)


@pytest.fixture
def trained(quick, monkeypatch, tmp_path, corpus):
    """trained(*flags) runs the command in this process with two tiny recipes in tmp_path/both."""
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    both = [*ladder_flags("base", corpus), *ladder_flags("change", corpus), f"--workdir={tmp_path}/both"]

    def call(*more, asking=ask):
        monkeypatch.setattr(sys, "argv", ["compare", *both, *more])  # where ml_collections looks for overrides
        return asking(*both, *more)
    return call


def test_a_dry_run_prints_both_plans_and_creates_nothing(tmp_path, trained, capsys):
    trained("--change.data.batch=8", "--dry_run")
    assert capsys.readouterr().out.count("A tiny ladder") == 2 and not (tmp_path / "both").exists()


def test_two_recipes_are_trained_and_compared(tmp_path, trained, capsys):
    trained("--change.optim.weight_decay=0.5", "--pack=2")
    out, content = capsys.readouterr().out, json.loads((tmp_path / "both" / "compare.json").read_text())
    assert out.count("A tiny ladder") == 2 and content["verdict"] in out and content["because"] in out
    assert [row["pairs"] for row in content["rungs"]] == [2, 2, 2] and content["noise"]["paired"]
    assert (tmp_path / "both" / "report" / "index.html").exists() and "experiments.compare" in content["made"]["command"]
    for name in two_studies.NAMES:  # which are studies without a forecast, and without a target
        frame = records.load_records(tmp_path / "both" / name)
        assert set(frame["role"]) == {"sweep"} and len(frame) == 6
        assert not (tmp_path / "both" / name / "forecast.json").exists()
        means = np.exp(np.log(frame["bits_per_byte"]).groupby(frame["flops"]).mean())
        assert [row[name] for row in content["rungs"]] == pytest.approx(means.tolist())
    ask(f"--base_workdir={tmp_path}/both/base", f"--change_workdir={tmp_path}/both/change", f"--output={tmp_path}/again")
    again = json.loads((tmp_path / "again" / "compare.json").read_text())
    assert {**again, "made": 0, "digest": 0} == {**content, "made": 0, "digest": 0}


@pytest.mark.slow
@pytest.mark.parametrize("family, metric", [("vae", "bits_per_dim"), ("gan", "fd_infinity")])
def test_two_recipes_of_images_are_trained_and_compared(family, metric, quick, tmp_path, monkeypatch, capsys):
    """The change has another learning rate. Every rung is that of the records, without runs that diverged."""
    both = [*image_flags("base", family, 3e-4), *image_flags("change", family, 5e-4), f"--workdir={tmp_path}", "--pack=6"]
    monkeypatch.setattr(sys, "argv", ["compare", *both])  # where ml_collections looks for overrides
    ask(*both)
    content = json.loads((tmp_path / "compare.json").read_text())
    assert content["metric"] == metric and content["verdict"] in capsys.readouterr().out and content["noise"]["paired"]
    frames = [records.load_records(tmp_path / name) for name in two_studies.NAMES]
    assert [len(frame) for frame in frames] == [6, 6]
    losses = [frame[~frame["diverged"].astype(bool)].pivot_table(index="seed", columns="flops", values=metric)
              for frame in frames]
    assert [row["pairs"] for row in content["rungs"]] == (losses[0] - losses[1]).notna().sum().tolist()
    for name, loss in zip(two_studies.NAMES, losses):
        assert [row[name] for row in content["rungs"]] == pytest.approx(np.exp(np.log(loss).mean()).tolist())


def test_published_speed_ups_fade(tmp_path, capsys):
    """Muon over AdamW (Wen et al. 2025, arXiv:2509.02046): the first two rungs, and all. FLOPs are 6 N D, at 20 tokens a
    parameter."""
    ask("--speedups=2e18:1.315,1.1e19:1.228", "--noise=0.01", f"--output={tmp_path}")
    assert "fades" in (out := capsys.readouterr().out) and "is assumed" in out
    assert json.loads((tmp_path / "compare.json").read_text())["verdict"] == "fades"
    ask("--speedups=2e18:1.31,1.1e19:1.23,3.2e19:1.19,1.7e20:1.14")
    assert "change over base: fades" in capsys.readouterr().out
    ask("--speedups=2e18:1.315,1.1e19:1.228")
    assert "cannot tell" in (out := capsys.readouterr().out) and "--noise=0.01" in out


def test_a_table_of_losses_names_its_recipes(tmp_path, capsys):
    frame = table(Planted(1.4, 0.8, noise=0.001), np.random.default_rng(0)).replace({"base": "adamw", "change": "muon"})
    frame.to_csv(tmp_path / "losses.csv", index=False)
    points = f"--points={tmp_path}/losses.csv"
    status, said = refused(capsys, points)
    assert status == 1 and "adamw, muon" in said and "--recipes=adamw,muon" in said
    ask(points, "--recipes=adamw,muon", "--target_flops=1e17", f"--output={tmp_path}/out")
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (content["base"], content["change"], content["target"]["flops"]) == ("adamw", "muon", 1e17)
    assert "muon over adamw by loss: reverses" in capsys.readouterr().out
    ask(points, "--recipes=muon,adamw", "--where=rung < 3", "--noise=0.002")
    assert "is assumed" not in (out := capsys.readouterr().out) and "at random, assumed" in out


def test_studies_of_text_and_of_images_are_compared(tmp_path, capsys):
    for name, runs, metric, unit in (("text", sweep(), "bits_per_byte", "tokens"),
                                     ("gan", image_sweep(), "fd_infinity", "examples")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text(json.dumps({"metric": metric, "unit": unit}))
        for run in runs:
            records.Records(tmp_path / name).write(run)
        ask(f"--base_workdir={tmp_path}/{name}", f"--change_workdir={tmp_path}/{name}", f"--output={tmp_path}/{name}-out",
            "--bootstrap=200")
        content = json.loads((tmp_path / f"{name}-out" / "compare.json").read_text())
        assert content["metric"] == metric
        assert [row["speedup"] for row in content["rungs"]] == pytest.approx([1.0] * len(content["rungs"]))
        assert content["law"]["form"] == "chinchilla"
    capsys.readouterr()
    status, said = refused(capsys, f"--base_workdir={tmp_path}/text", f"--change_workdir={tmp_path}/gan")
    assert status == 1 and "no common metric" in said and "bits_per_byte" in said and "fd_infinity" in said
    status, said = refused(capsys, f"--base_workdir={tmp_path}/gan", f"--change_workdir={tmp_path}/gan", "--y=coverage")
    assert status == 1 and "coverage rises" in said and "--y=" in said


REFUSED = {  # {name: (flags, exit status, parts of the sentence)}
    "nothing": ([], 2, ["--base=A.py", "--speedups="]),
    "two ways": (["--speedups=1:2,2:2", "--points=a.csv"], 2, ["one of four ways"]),
    "half of a way": (["--base_workdir=a"], 2, ["--change_workdir must be given too"]),
    "a workdir to write to": (["--speedups=1:2,2:2", "--workdir=a"], 2, ["--output=DIR"]),
    "a flag of another way": (["--speedups=1:2,2:2", "--recipes=a,b"], 2, ["--recipes goes with --points"]),
    "no pairs": (["--speedups=1e18,1.3"], 2, ["FLOPs:speed-up", "2e18:1.315"]),
    "a single speed-up": (["--speedups=1e18:1.3"], 1, ["two rungs or more"]),
    "a negative speed-up": (["--speedups=1e18:1.3,1e19:-1"], 1, ["positive"]),
    "noise in percent": (["--speedups=1e18:1.3,1e19:1.2", "--noise=2"], 2, ["0.01 for one percent"]),
    "a target of nothing": (["--speedups=1e18:1.3,1e19:1.2", "--target_flops=0"], 1, ["--target_flops=", "positive"]),
    "no such file": (["--points=nowhere.csv"], 1, ["nowhere.csv"]),
    "no such config": (["--base=nowhere.py", "--change=nowhere.py", "--workdir=a"], 2, ["--base=nowhere.py is not a file"]),
    "no such field": ([f"--base={ROOT}/tests/tiny_ladder.py", f"--change={ROOT}/tests/tiny_ladder.py", "--workdir=a",
                       "--change.optim.nam=muon"], 2, ["--change.optim.nam", "nearest: --change.optim.name"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused_in_one_sentence(case, capsys, tmp_path, monkeypatch):
    arguments, status, parts = REFUSED[case]
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])  # where ml_collections looks for overrides
    code, said = refused(capsys, *arguments)
    assert code == status and all(part in said for part in parts), said


@pytest.mark.parametrize("more, part", [
    ("--change.metric=loss", "no common metric"), ("--y=coverage", "coverage rises"),
    ("--change.tokens=(2560,204800)", "share one rung")])
def test_plans_that_cannot_be_compared_are_refused_before_training(more, part, tmp_path, trained, capsys):
    code, said = trained(more, asking=lambda *flags: refused(capsys, *flags))
    assert code == 1 and part in said, said
    assert not (tmp_path / "both").exists()

"""Every command as a user types it: a small quickstart is trained, and its workdir is used as the README shows."""

import json
import os
import pathlib
import re
import zipfile

import httpx
import pytest
from driven_commands import driven

import scaling
from experiments import __main__ as script

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {"data.name": "text:corpus/*.txt", "widths": "(16,24)", "tokens": "(1024,1536,2048)",
         "seeds": "((1,1),(1,1),(1,1))", "target_width": 24, "target_tokens": 4096, "data.length": 32,
         "data.evaluation_tokens": 1024, "optim.warmup": 2, "optim.name": "adamw", "law": "tied_chinchilla"}
ELSEWHERE = {"compile_for"}  # which compiles for TPUs, minutes each: tests/pods calls its parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first_day")
    (folder / "corpus").mkdir()
    for i in range(8):
        lines = (f"def f{j}(x):\n    return x + {i * j % 17}\n" for j in range(300))
        (folder / "corpus" / f"{i}.txt").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def commands(folder):
    """Runs `scaling WORDS` in the folder, which must succeed, and gives its standard output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_DATA_DIR", str(folder / "data"))
        with driven(folder) as call:
            yield Checked(call)


class Checked:
    def __init__(self, call):
        self.call = call

    def __call__(self, *words):
        ran = self.call(*words)
        assert ran.code == 0 and "Traceback" not in ran.err, ran
        return ran.out

    def json(self, *words):
        """The one line of JSON of a command."""
        [line] = self(*words, "--json").splitlines()
        return json.loads(line)


@pytest.fixture(scope="module")
def study(commands):
    """What `scaling run` prints; its workdir is runs/quickstart."""
    own = [f"--config.{name}={value}" for name, value in SMALL.items()]
    config = f"--config={ROOT / 'configs/quickstart.py'}"
    return commands("run", config, "--workdir=runs/quickstart", *own)


WORKDIR = "--workdir=runs/quickstart"


def test_a_study_is_trained_fitted_forecast_and_read(commands, study, folder):
    assert study.endswith("report: runs/quickstart/report/index.html\n")
    made = {"records", "params", "curves", "fit.json", "forecast.json", "report"}
    assert made <= set(os.listdir(folder / "runs/quickstart"))
    assert commands("report", WORKDIR) == "report: runs/quickstart/report/index.html\n"
    assert "E + A N^-alpha" in commands("fit", WORKDIR, "--law=tied_chinchilla", "--nofigures", "--bootstrap=20")
    said = commands("forecast", WORKDIR, "--law=tied_chinchilla", "--target=N=1e5,D=1e6", "--bootstrap=20",
                    "--output=f.json")
    assert "N = 100000" in said and json.loads((folder / "f.json").read_text())
    assert "FLOPs" in commands("plan", WORKDIR, "--budget=1e9", "--runs=2", "--output=next.py")
    assert "def sweep" in (folder / "next.py").read_text()
    assert "7 finished" in commands("watch", WORKDIR, "--once")


def test_a_model_is_sampled_scored_shipped_and_taken_back(commands, study, folder, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(folder / "data"))
    best = scaling.restore(folder / "runs/quickstart").fingerprint
    assert commands.json("generate", WORKDIR, "--prompt=def ", "--tokens=4")["run"] == best
    found = commands.json("evaluate", WORKDIR, "--units=64")
    assert found["run"] == best and found["metrics"]["bits_per_byte"] > 0
    assert commands.json("export", WORKDIR, "--output=hf")["model_type"] == "qwen3"
    there = commands.json("import_checkpoint", "--from=hf", "--workdir=runs/imported")
    assert scaling.restore(folder / "runs/imported").fingerprint == there["run"]
    ask = {"prompt": "def ", "max_tokens": 2, "logprobs": 1}
    served = commands.call.serving("serve", WORKDIR, "--port=0", "--slots=1", "--canary=", says="is served at ")
    with served as (url, ended):
        answer = httpx.post(f"{url}/v1/completions", json=ask, timeout=60).json()
    assert answer["model"] == best and len(answer["choices"][0]["logprobs"]["tokens"]) <= 2
    assert ended[0].code == 0


def test_a_study_is_passed_on_and_done_again(commands, study, folder):
    sent = commands.json("upload", WORKDIR, "--writers=tensorboard")["tensorboard"]["sent"]
    assert len(sent) == 7 == commands.json("bundle", WORKDIR, "--output=study.zip")["runs"]
    assert "bundle.json" in zipfile.ZipFile(folder / "study.zip").namelist()
    assert "7 runs" in commands("bundle", "--bundle=study.zip", "--workdir=runs/copy")
    record = min((folder / "runs/copy/records").glob("*.jsonl"), key=lambda path: json.loads(
        path.read_text().splitlines()[-1])["flops"])
    again = commands.json("reproduce", f"--record={record}", "--workdir=runs/again")
    assert again["agrees"] and again["metric"] == "bits_per_byte"


def test_claims_recipes_and_forecasts_are_looked_up(commands, folder):
    assert re.search(r"^size: ", commands("claims", "--list"), re.MULTILINE)
    assert "change over base" in commands("compare", "--speedups=1e12:1.2,3e12:1.3,1e13:1.25", "--noise=0.02",
                                          "--bootstrap=100")
    assert "| transformer |" in commands("forecast_table", f"--record={ROOT / 'docs/forecasts.json'}")


def test_every_command_is_called_here_or_is_tested_elsewhere(commands):
    assert "usage: scaling COMMAND" in commands("--help")
    called = re.findall(r'commands(?:\.json|\.call\.serving)?\("([a-z]\w+)"', pathlib.Path(__file__).read_text())
    assert set(script.commands()) == {*called, *ELSEWHERE}

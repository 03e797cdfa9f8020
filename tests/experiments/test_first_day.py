"""Every command as a user types it: a study of n-grams, which take no compilation, is trained, and its workdir is used as
the README shows; a small Transformer is taken over from a checkpoint."""

import json
import os
import pathlib
import re
import sys
import zipfile

import httpx
import pytest
from absl import flags
from absl.testing import flagsaver
from boxed_flags import RUN, Box
from driven_commands import driven
from foreign_checkpoint import LAYOUTS, write_foreign

import scaling
from experiments import __main__ as script
from experiments import claims

with RUN:
    from experiments import run  # noqa: F401  whose flags compile_for takes
COMPILE = Box(of=RUN)  # experiments.plan has an --output of its own
with COMPILE:
    from experiments import compile_for

ROOT = pathlib.Path(__file__).parents[2]
WORKDIR, IMPORTED = "--workdir=runs/quickstart", "--workdir=runs/imported"
STUDY = '''"""Six n-gram models and a larger one."""
from scaling import experiment
from scaling.experiment import grid

def get_config():
    config = experiment.config("ngram")
    config.title, config.metric, config.law = "N-grams", "bits_per_byte", "tied_chinchilla"
    config.data.update({"name": "text:corpus/*.txt", "length": 32, "batch": 8, "evaluation_tokens": 1024})
    return config

def sweep(config):
    return grid(experiment.from_config(config), {"family.counts": [300, 600], "data.tokens": [1024, 1536, 2048]})

def target(config, learning_rate):
    return experiment.from_config(config).replace({"family.counts": 600, "data.tokens": 4096})
'''


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
        self.said = ran.err
        return ran.out

    def json(self, *words):
        """The one line of strict JSON that is all that a command prints with --json."""
        [line] = self(*words, "--json").splitlines()
        return json.loads(line, parse_constant=pytest.fail)


def written(path):
    """The values in a JSON file, without its digest."""
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "digest"}


@pytest.fixture(scope="module")
def study(commands, folder):
    """What `scaling run --json` answers; its workdir is runs/quickstart."""
    (folder / "ngrams.py").write_text(STUDY)
    return commands.json("run", "--config=ngrams.py", "--config.data.length=24", WORKDIR)


def test_a_study_is_trained_fitted_and_forecast(commands, study, folder):
    runs = folder / "runs/quickstart"
    assert {"records", "params", "curves", "report"} <= set(os.listdir(runs)) and len(study["planned"]) == 7
    assert study["report"] == "runs/quickstart/report/index.html" and (folder / study["report"]).exists()
    for name in ("fit", "forecast", "forecast_check"):
        assert study[name] == written(runs / f"{name}.json")
    how = WORKDIR, "--law=tied_chinchilla", "--bootstrap=20"
    fitted = commands.json("fit", *how, "--nofigures", "--output=fit")
    assert fitted.pop("written") == ["fit/fit.json"] and fitted == written(folder / "fit/fit.json")
    assert "E + A N^-alpha" in commands.said
    forecast = commands.json("forecast", *how, "--target=N=1e5,D=1e6", "--nofigure", "--output=f.json")
    assert forecast.pop("written") == "f.json" and forecast == written(folder / "f.json")
    assert "N = 100000" in commands.said
    assert commands.json("forecast", "--check=f.json", "--observed=3", "--nofigure") == written(folder / "f_check.json")
    proposed = commands.json("plan", WORKDIR, "--budget=1e9", "--runs=2", "--output=next.py")
    assert "def sweep" in (folder / proposed["written"]).read_text() and len(proposed["runs"]) == 2
    assert "FLOPs" in commands.said and proposed["cost"] < 1e9
    assert commands.json("watch", WORKDIR)["states"]["finished"] == 7


def test_a_model_is_taken_over_sampled_and_served(commands, folder, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(folder / "data"))
    write_foreign(folder / "theirs", (folder / "corpus/1.txt").read_text(), **LAYOUTS["llama"])
    there = commands.json("import_checkpoint", "--from=theirs", IMPORTED)
    assert scaling.restore(folder / "runs/imported").fingerprint == there["run"]
    page = commands.json("report", IMPORTED)["report"]
    assert there["run"] in (folder / page).read_text() and commands.said == f"report: {page}\n"
    assert commands.json("generate", IMPORTED, "--prompt=def ", "--tokens=4")["run"] == there["run"]
    assert commands.json("export", IMPORTED, "--output=hf")["model_type"] == "llama"
    ask = {"prompt": "def ", "max_tokens": 2, "logprobs": 1}
    served = commands.call.serving("serve", IMPORTED, "--port=0", "--slots=1", "--canary=", says="is served at ")
    with served as (url, ended):
        answer = httpx.post(f"{url}/v1/completions", json=ask, timeout=60).json()
    assert answer["model"] == there["run"] and len(answer["choices"][0]["logprobs"]["tokens"]) <= 2
    assert ended[0].code == 0


def test_a_study_is_scored_passed_on_and_done_again(commands, study, folder):
    found = commands.json("evaluate", WORKDIR, "--units=64")
    assert found["run"] in study["planned"] and found["metrics"]["bits_per_byte"] > 0
    sent = commands.json("upload", WORKDIR, "--writers=tensorboard")["tensorboard"]["sent"]
    assert len(sent) == 7 == commands.json("bundle", WORKDIR, "--output=study.zip")["runs"]
    assert "bundle.json" in zipfile.ZipFile(folder / "study.zip").namelist()
    assert "7 runs" in commands("bundle", "--bundle=study.zip", "--workdir=runs/copy")
    record = min((folder / "runs/copy/records").glob("*.jsonl"), key=lambda path: json.loads(
        path.read_text().splitlines()[-1])["flops"])
    again = commands.json("reproduce", f"--record={record}", "--workdir=runs/again")
    assert again["agrees"] and again["metric"] == "bits_per_byte"


def test_claims_recipes_and_forecasts_are_looked_up(commands, folder):
    assert set(commands.json("claims", "--list")["claims"]) == set(claims.names())
    assert re.search(r"^size: ", commands.said, re.MULTILINE)
    compared = commands.json("compare", "--speedups=1e12:1.2,3e12:1.3,1e13:1.25", "--noise=0.02", "--bootstrap=100",
                             "--output=compared")
    assert "change over base" in commands.said and (folder / compared.pop("report")).exists()
    assert written(folder / compared.pop("written")) == compared
    record = ROOT / "docs/forecasts.json"
    (folder / "known.json").write_text(record.read_text())
    assert commands.json("forecast_table", "--record=known.json") == {
        "forecasts": json.loads(record.read_text()), "written": ["known.json"]}
    assert "| transformer |" in commands.said


def test_the_report_on_a_compiled_step_is_json(monkeypatch, tmp_path, capsys):
    """In this process, without the compiler of TPUs, which takes minutes."""
    report = {"error": "a mesh does not divide", "mfu": float("nan")}
    monkeypatch.setattr(compile_for, "nearest_that_fits", lambda *asked, say: report)
    monkeypatch.setattr(sys, "argv", ["compile_for", f"--config={ROOT / 'configs/pod.py'}", "--topology=v5e:2x2", "--json",
                                      f"--output={tmp_path / 'report.json'}"])
    with COMPILE, flagsaver.flagsaver(), pytest.raises(SystemExit) as left:
        flags.FLAGS.unparse_flags()
        compile_for.main(compile_for.run.refuse_unknown(sys.argv)[:1])
    said = capsys.readouterr()
    found = json.loads(said.out, parse_constant=pytest.fail)
    assert left.value.code == 1 and report["error"] in said.err  # as without --json
    assert (found["error"], found["mfu"]) == (report["error"], None)
    assert json.loads(pathlib.Path(found["written"]).read_text())["error"] == report["error"]


def test_every_command_is_called_here_and_all_but_the_server_answer_in_json(commands):
    assert "usage: scaling COMMAND" in commands("--help")
    text = pathlib.Path(__file__).read_text()
    assert set(script.commands()) == {*re.findall(r'commands\.json\("([a-z]\w+)"', text), "serve", "compile_for"}
    assert 'serving("serve", ' in text and "compile_for.main(" in text

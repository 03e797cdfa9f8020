"""experiments._environment: every flag of every command and every field of every config can come from the environment."""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver
from boxed_flags import RUN

from scaling.study import configs

ROOT = pathlib.Path(__file__).parents[2]
COMMANDS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py") if path.stem[0] != "_")
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
CONFIG = str(ROOT / "configs" / "quickstart.py")
ODD = "two words, it's = $HOME --x"

with RUN:
    from experiments import _environment, run


@pytest.fixture
def boxed():
    with RUN, flagsaver.flagsaver():
        yield


def inserted(*argv, **here):
    """The words after the command's name, with those that come from the environment."""
    argv = ["experiments.run", *argv]
    _environment.insert(argv, here=here)
    return argv[1:]


# ----- every flag

# One process imports what commands share and forks for each command, since two commands may define a flag of one name.
EVERY = """
import importlib, json, os, sys
import scaling.study.study, scaling.laws.figures.plots, scaling.report
from absl import flags
from experiments import _environment
for command, names in json.load(sys.stdin).items():
    if os.fork():
        assert os.wait()[1] == 0, command
        continue
    importlib.import_module(f"experiments.{command}")
    module = f"experiments.{command}"
    key = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)]
    assert set(names) <= set(key), (names, key)
    everything = {_environment.variable(name): "1" for name in key}
    assert len(everything) == len(key) and not {f"SCALING_{other}" for other in _environment.OTHERS} & set(everything)
    for name in key:
        for value in ODD, "0", "-1", "true":
            argv = [module]
            assert _environment.insert(argv, here={_environment.variable(name): value}) == [f"--{name}={value}"]
            before = list(argv)
            assert _environment.insert(argv, here={_environment.variable(name): "another"}) == [] and argv == before
    found = _environment.insert([module], here=everything)
    assert sorted(found) == sorted(f"--{name}=1" for name in key), found
    os._exit(0)
print("all")
"""


def defined(command):
    """The flags that the source of a command defines, and those of other commands that it reads."""
    source = (ROOT / "experiments" / f"{command}.py").read_text()
    read = re.findall(r"flags\.FLAGS(?:\.|\[\")(\w+)(?!\()\b", source)
    return [*read, *(node.args[0].value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
                     and re.match(r"(config_)?flags\.DEFINE_(?!alias)", ast.unparse(node.func)))]


def test_every_flag_of_every_command_comes_from_the_environment_unless_it_is_typed():
    found = {command: defined(command) for command in COMMANDS}
    assert {"run", "fit", "forecast", "report", "plan"} <= set(found) and all(found.values())
    done = subprocess.run([sys.executable, "-c", f"ODD = {ODD!r}\n{EVERY}"], input=json.dumps(found), cwd=ROOT,
                          capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert done.stdout == "all\n", done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_the_environment_and_says_so(command):
    source = (ROOT / "experiments" / f"{command}.py").read_text()
    assert "SCALING_" in ast.get_docstring(ast.parse(source))
    parsers = r"flags_parser=(_environment\.parse|run\.refuse_unknown|refuse_unknown)\b|_points\.run\(main\)"
    assert re.search(parsers, source)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_field_of_every_config_has_a_variable_of_its_own(boxed, path):
    paths = [f"config.{name}" for name in configs.field_names(configs.load_config(str(path)).get_config())]
    variables = {_environment.variable(name): name for name in paths}
    assert len(variables) == len(paths) > 50
    for variable, name in variables.items():
        assert re.fullmatch(r"SCALING_CONFIG__[A-Z][A-Z0-9_]*", variable)
        assert inserted(**{variable: ODD}) == [f"--{name}={ODD}"]


# ----- how flags, variables and configs combine


def asked(monkeypatch, *argv, **here):
    """The flags of experiments.run."""
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["experiments.run", *argv])
    run.refuse_unknown(sys.argv)
    return flags.FLAGS


CASES = {  # {name: (words on the command line, variables, {flag: expected value})}
    "fields": ([], {"SCALING_CONFIG": CONFIG, "SCALING_CONFIG__OPTIM__WEIGHT_DECAY": "0.05", "SCALING_WORKDIR": "a"},
               {"config.optim.weight_decay": 0.05, "workdir": "a"}),
    "fields of a typed config": (["--workdir=b", "--config", CONFIG, "--dry_run"],
                                 {"SCALING_CONFIG__FAMILY__KV_HEADS": "2", "SCALING_WORKDIR": "a"},
                                 {"config.family.kv_heads": 2, "workdir": "b", "dry_run": True}),
    "a typed field": ([f"--config={CONFIG}", "--config.optim.beta1=0.8"],
                      {"SCALING_CONFIG__OPTIM__BETA1": "0.7", "SCALING_CONFIG__OPTIM__BETA2": "0.99"},
                      {"config.optim.beta1": 0.8, "config.optim.beta2": 0.99}),
    "a config of each": ([f"--config={CONFIG}"], {"SCALING_CONFIG": "nowhere.py"}, {"config.optim.name": "muon"}),
    "a typed negation": (["--nodry_run", f"--config={CONFIG}"], {"SCALING_DRY_RUN": "true"}, {"dry_run": False}),
    "booleans and lists": ([f"--config={CONFIG}"], {"SCALING_DRY_RUN": "1", "SCALING_WRITERS": "jsonl,wandb"},
                           {"dry_run": True, "writers": ["jsonl", "wandb"]}),
    "nothing in it": ([f"--config={CONFIG}"], {"SCALING_PACK": "", "SCALING_CONFIG__OPTIM__NAME": ""}, {"pack": 0}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_command_line_wins_over_variables(boxed, monkeypatch, case):
    argv, here, expected = CASES[case]
    found = asked(monkeypatch, *argv, **here)
    for name, value in expected.items():
        config, _, field = name.partition(".")
        at = found[config].value
        for part in filter(None, field.split(".")):
            at = at[part]
        assert at == value, name


def test_the_recorded_command_includes_the_environment(boxed, monkeypatch, capsys):
    asked(monkeypatch, f"--config={CONFIG}", SCALING_WORKDIR="my runs", SCALING_CONFIG__OPTIM__NAME="muon")
    assert sys.argv == ["experiments.run", f"--config={CONFIG}", "--config.optim.name=muon", "--workdir=my runs"]
    assert capsys.readouterr().err == "from the environment: --config.optim.name=muon '--workdir=my runs'\n"


# ----- what is not a flag


@pytest.mark.parametrize("variable, says", [
    ("SCALING_WORK_DIR", "nearest: SCALING_WORKDIR"), ("SCALING_DRYRUN", "nearest: SCALING_DRY_RUN"),
    ("SCALING_DATADIR", "nearest: SCALING_DATA_DIR"), ("SCALING_OPTIM__NAME", "SCALING_CONFIG__OPTIM__NAME"),
    ("SCALING_CONFIG_OPTIM__NAME", "SCALING_CONFIG__"),
    ("SCALING_CONFIG__OPTIM__WIEGHT_DECAY", "config.optim.weight_decay")])
def test_a_name_that_is_almost_one_is_refused_with_the_nearest(boxed, monkeypatch, capsys, variable, says):
    with pytest.raises(SystemExit) as left:
        asked(monkeypatch, f"--config={CONFIG}", **{variable: "1"})
    [*_, said] = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and said.startswith("error: ") and says in said, said


@pytest.mark.parametrize("variable", ["SCALING_DATA_DIR", "SCALING_TEST_FLAGS", "SCALING_POINTS", "SCALING_TARGET_PARAMS",
                                      "SCALING_FIGURES", "SCALING", "SCALINGS_WORKDIR", "OTHER_WORKDIR"])
def test_flags_of_other_commands_and_other_variables_are_ignored(boxed, capsys, variable):
    assert inserted("--pack=4", **{variable: "1"}) == ["--pack=4"] and capsys.readouterr().err == ""


def test_an_unknown_variable_with_the_prefix_is_mentioned(boxed, capsys):
    assert inserted(SCALING_SERVICE_HOST="10.0.0.1") == []
    assert capsys.readouterr().err == "SCALING_SERVICE_HOST is not a flag and is ignored\n"


def test_words_after_two_hyphens_belong_to_the_wrapped_command(boxed):
    """As in tools.launch."""
    found = inserted("--dry_run", "--", "--workdir=a", SCALING_WORKDIR="b")
    assert found == ["--workdir=b", "--dry_run", "--", "--workdir=a"]

"""The console script `scaling`: it knows every command, starts each as `python -m` would, and loads nothing for that."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import pytest
import setuptools

from experiments import __main__ as script

ROOT = pathlib.Path(__file__).parents[2]


def test_every_command_is_listed_with_one_sentence_and_the_usual_ones_come_first(capsys):
    known = script.commands()
    files = {path.stem for path in (ROOT / "experiments").glob("[!_]*.py")}
    assert set(known) == files | {"claims"} and tuple(known)[:len(script.FIRST)] == script.FIRST
    assert all(sentence.endswith((".", "?")) and len(sentence) > 20 for sentence in known.values())
    for asked in ([], ["--help"], ["help"]):
        script.main(asked)
        out = capsys.readouterr().out
        assert all(f"  {name} " in out and sentence in out for name, sentence in known.items())


def test_a_file_becomes_a_command_by_being_there(tmp_path):
    (tmp_path / "dance.py").write_text('"""Dance\non tables.\n\nMore."""')
    (tmp_path / "_part.py").write_text('"""No command."""')
    (tmp_path / "sing").mkdir()
    (tmp_path / "sing" / "__main__.py").write_text('"""Sing."""')
    assert script.commands(tmp_path) == {"dance": "Dance on tables.", "sing": "Sing."}


def test_a_command_takes_the_place_of_the_script_with_all_its_flags(monkeypatch):
    called = []
    monkeypatch.setattr(os, "execv", lambda *words: called.append(words))
    script.main(["fit", "--points=a b.csv", "--law=list"])
    assert called == [(sys.executable, [sys.executable, "-m", "experiments.fit", "--points=a b.csv", "--law=list"])]


def test_a_wrong_word_is_answered_with_the_nearest_commands(capsys):
    for word, says in (("evalute", "nearest: evaluate"), ("--workdir=a", "there are: run, fit"), ("_errors", "no command")):
        with pytest.raises(SystemExit) as left:
            script.main([word])
        said = capsys.readouterr().err
        assert left.value.code == 2 and says in said and said.count("\n") == 1


def test_the_list_and_the_start_of_a_command_load_no_library():
    code = ("import os, sys; os.execv = lambda *words: None\n"
            "from experiments.__main__ import main; main(['--help']); main(['run'])\n"
            "print(sorted({'jax', 'numpy', 'pandas', 'absl', 'scaling'} & sys.modules.keys()), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_the_script_is_installed_with_the_package_that_it_runs(tmp_path):
    done = subprocess.run([sys.executable, "setup.py", "--quiet", "egg_info", f"--egg-base={tmp_path}"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [script_of_ours] = importlib.metadata.PathDistribution(tmp_path / "scaling.egg-info").entry_points
    assert (script_of_ours.name, script_of_ours.load()) == ("scaling", script.main)
    installed = (tmp_path / "scaling.egg-info" / "top_level.txt").read_text().split()
    assert {"experiments", "scaling"} == set(installed)
    assert {"experiments", "experiments.claims"} <= {*setuptools.find_packages(ROOT)}

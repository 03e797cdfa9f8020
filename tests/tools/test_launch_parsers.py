"""Printed commands are read by the parsers of the tools that would run them. A tool that is not installed is skipped:

    pip install 'xpk>=0.15' 'skypilot>=0.11.2' && pytest -n 0 tests/tools/test_launch_parsers.py

gcloud is not on PyPI. Where there is no sbatch, a stand-in knows the options of its manual.
"""

import argparse
import re
import shutil
import subprocess

import pytest
from boxed_flags import Box
from clouds import GKE, ROOT, RUN, SKY, SLURM, commands, printed

with Box():
    from tools.launch import accelerators

NEW = [".venv/bin/python", "venv/lib/a.py", "runs/a/study.json", "build/a", "scaling/__pycache__/a.pyc", "scaling/a.py",
       ".git/HEAD", "a.egg-info/PKG"]


def xpk():
    core = pytest.importorskip("xpk.parser.core")
    parser = argparse.ArgumentParser()
    core.set_parser(parser)
    return parser


def test_xpk_reads_the_commands_of_a_workload_and_of_the_page(cloud):
    parser = xpk()
    create, _, delete = commands(printed(cloud, *GKE, "--slices=2", "--steps=run,logs,delete", "--xpk_option=--flex"))
    found = parser.parse_args(create[1:])
    assert (found.num_slices, found.restart_on_exit_codes, found.max_restarts, found.flex) == (2, "75", "100", True)
    assert found.command.startswith("pip install") and parser.parse_args(delete[1:]).workload == "scaling"
    page = (ROOT / "docs" / "pods.md").read_text().replace("\\\n", " ")
    for line in re.findall(r"^xpk (?:cluster|workload) .*", page, re.M):
        parser.parse_args(line.split()[1:])


def test_xpk_knows_every_slice():
    systems = pytest.importorskip("xpk.core.system_characteristics")
    known = set(systems.UserFacingNameToSystemCharacteristics)
    slices = [accelerators.parse(f"{name}:{shape}") for name in accelerators.GENERATIONS
              for shape in accelerators.shapes(name)]
    slices += [part._replace(topology="") for part in slices]
    assert not {part.xpk_type for part in slices if part.generation != "v5e" or part.chips >= 8} - known


def test_sky_reads_the_commands_and_the_yaml(cloud, monkeypatch):
    monkeypatch.setenv("HOME", str(cloud.path))
    sky = pytest.importorskip("sky")
    from sky.client.cli import command
    tpu = ["skypilot", "--accelerator=v5e-16", "--infra=gcp/us-west4"]
    for argv, name, nodes in ((SKY, "H100", 2), (tpu, "tpu-v5litepod-16", 1)):
        text = printed(cloud, *argv, "--spot", "--steps=run,logs,delete")
        file = cloud.path / "scaling.sky.yaml"
        file.write_text(text[text.index("\n") + 1:text.index("END_OF_TASK\n# run")])
        task = sky.Task.from_yaml(str(file))
        [resources] = task.resources
        assert task.num_nodes == nodes and list(resources.accelerators) == [name] and resources.use_spot
        assert resources.job_recovery["recover_on_exit_codes"] == [75]
        monkeypatch.chdir(cloud.path)
        lines = [line.split()[2:] for line in text.splitlines() if line.startswith("sky jobs ")]
        for (verb, *words), params in zip(lines, ({"entrypoint": ("scaling.sky.yaml",), "yes": True},
                                                  {"name": "scaling", "follow": False, "tail": 100},
                                                  {"name": "scaling", "yes": True}), strict=True):
            found = command.jobs.commands[verb].make_context(verb, words).params
            assert params.items() <= found.items(), found


def test_sky_leaves_out_runs_and_environments(tmp_path):
    utils = pytest.importorskip("sky.data.storage_utils")
    shutil.copy(ROOT / ".skyignore", checkout(tmp_path))
    out = utils.get_excluded_files_from_skyignore(str(tmp_path))
    assert [path for path in NEW if not any(path == one or path.startswith(f"{one}/") for one in out)] == ["scaling/a.py"]


def test_xpk_leaves_out_runs_and_environments(tmp_path):
    """As `_build_image_archive` of xpk does, and as docker does where xpk uses docker."""
    build = pytest.importorskip("docker.utils.build")
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    kept = build.exclude_paths(str(checkout(tmp_path)), patterns)
    assert [path for path in NEW if path in kept] == ["scaling/a.py"]


def checkout(path):
    for name in NEW:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


# What sbatch takes of what the launcher writes: slurm.schedmd.com/sbatch.html.
SBATCH = {"job-name": r"\S+", "nodes": r"\d+", "ntasks-per-node": r"\d+", "gpus-per-node": r"\d+", "requeue": None,
          "open-mode": "append|truncate", "output": r"\S+", "signal": r"(B:)?[A-Z0-9]+@\d{1,5}", "cpus-per-task": r"\d+",
          "time": r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}", "partition": r"\S+", "account": r"\S+", "array": r"\d+-\d+",
          "mem": r"\d+[KMGT]?"}


@pytest.mark.parametrize("more", [(), ("--shards=8", "--cpus_per_task=6", "--time=1-12", "--sbatch_option=--mem=0")])
def test_sbatch_reads_the_script(cloud, more):
    text = printed(cloud, *SLURM, *more, command=RUN)
    script = text[text.index("\n") + 1:text.rindex("END_OF_SCRIPT")]
    if sbatch := shutil.which("sbatch"):
        done = subprocess.run([sbatch, "--test-only"], input=script, text=True, capture_output=True)
        assert "unrecognized option" not in done.stderr and "Invalid" not in done.stderr, done.stderr
    head = script.splitlines()
    assert head[0] == "#!/bin/bash"  # else sbatch refuses the script
    options = [line.split()[1] for line in head if line.startswith("#SBATCH ")]
    assert len(options) >= 8 and all(line.startswith("#SBATCH ") for line in head[1:len(options) + 1])  # before any command
    for option in options:
        name, given, value = option.removeprefix("--").partition("=")
        assert name in SBATCH and (re.fullmatch(SBATCH[name], value) if SBATCH[name] else not given), option

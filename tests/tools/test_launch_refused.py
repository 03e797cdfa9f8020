"""tools.launch: a mistake is one sentence, and the commands of the documentation are none."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from clouds import GKE, PLACE, ROOT, RUN, SKY, SLURM, TPU

MISTAKES = [
    (["tpu_vm", *PLACE], "--accelerator is needed"),
    ([*TPU, "--zone=us-west4"], "us-central1-a"), ([*TPU, "--zone=us-west4-a; ls"], "--zone"),
    ([*TPU, "--project=My_Project"], "--project"), ([*TPU, "--name=Sweep"], "RFC 1035"),
    ([*TPU, "--name=" + "a" * 64], "63"), ([*TPU, "--name=a-"], "RFC 1035"),
    ([*TPU, "--name=a\n"], "RFC 1035"), ([*TPU, "--runtime_version=v2-alpha-tpuv6e"], "not belong to v5e"),
    ([*TPU, "--slices=0"], "--slices"), ([*TPU, "--slices=2", "--noqueue"], "queued resource"),
    ([*TPU, "--steps=destroy"], "create, install"),
    ([*TPU, "--source=nowhere"], "--source"), ([*TPU, "--source=https://x/y.git@-upload"], "--source"),
    ([*TPU, "--create_option=spot"], "--create_option"), ([*TPU, "--env=1X=2"], "--env"),
    ([*TPU, "--env=NOT_SET_HERE"], "not set"), ([*TPU, "--max_restarts=-1"], "max_restarts"),
    ([*TPU, "--acelerator=v5e-4"], "acelerator"), ([*TPU, "--accelerator=tpu7x-128"], "tools.launch.gke"),
    ([*TPU, "--capacity=flex_start"], "--max_run_duration, such as 10h"), ([*TPU, "--max_run_duration=2h"], "flex_start"),
    ([*TPU, "--capacity=flex_start", "--noqueue", "--max_run_duration=2h"], "leave out --noqueue"),
    ([*TPU, "--capacity=flex_start", "--max_run_duration=8d"], "at most 7 days"),
    ([*TPU, "--capacity=flex_start", "--max_run_duration=long"], "10h"),
    (["skypilot"], "v5e-16 for a TPU slice"), ([*SKY, "--accelerator=v5e-16"], "--nodes"), ([*SKY, "--nodes=0"], "--nodes"),
    (["skypilot", "--accelerator=v5p:4x4x8"], "write --accelerator=v5p-256"),
    (["skypilot", "--accelerator=H100"], "is not a slice"),
    (["skypilot", "--accelerator=tpu7x-128"], "tools.launch.gke"), ([*SKY, "--infra=GCP"], "gcp/us-west4"),
    ([*SKY, "--extras=gpu;ls"], "--extras"), ([*SKY, "--runtime_version=x"], "--runtime_version"),
    ([*SKY, "--max_restarts=3"], "does not count"), ([*SKY, "--sky_option=fast"], "--sky_option"),
    ([*GKE, "--name=" + "a" * 41], "40"), ([*GKE, "--cluster=C"], "--cluster"),
    ([*GKE, "--accelerator=v5e-4"], "v5e-8"), ([*GKE, "--docker_image=a b"], "--docker_image"),
    ([*GKE, "--extras=tpu;ls"], "--extras"), ([*GKE, "--slices=0"], "--slices"),
    ([*SLURM, "--nodes=0"], "--nodes"), ([*SLURM, "--gpus=0"], "--gpus"), ([*SLURM, "--gpus=64"], "--nodes"),
    ([*SLURM, "--time=1h"], "12:00:00"), ([*SLURM, "--partition=a b"], "--partition"),
    ([*SLURM, "--tasks_per_node=3"], "divide"), ([*SLURM, "--shards=-1"], "--shards"),
    ([*SLURM, "--setup=a\nEND_OF_SCRIPT"], "one line"), ([*SLURM, "--sbatch_option=mem"], "--sbatch_option"),
    ([*SLURM, "--shards=2", "--", *RUN, "--shard=0/2"], "has one already"),
    ([*SLURM, "--"], "-- python -m experiments.run")]
# Each case runs in its own process, forked from one that has imported the shared modules.
CASES = """
import json, os, runpy, sys
from tools.launch import common
for argv in json.load(sys.stdin):
    read, write = os.pipe()
    if not os.fork():
        os.dup2(write, 1), os.dup2(write, 2)
        sys.argv = argv
        runpy.run_module("tools.launch." + argv[0], run_name="__main__", alter_sys=True)
    os.close(write)
    said = os.fdopen(read).read()
    # What a later child inherits unwritten, it writes at its end.
    print(json.dumps([os.waitstatus_to_exitcode(os.wait()[1]), said]), flush=True)
"""


def test_a_mistake_is_one_sentence_and_prints_no_command():
    cases = [[argv[0], "--dry_run", *argv[1:], *([] if "--" in argv else ["--", *RUN])] for argv, _ in MISTAKES]
    done = subprocess.run([sys.executable, "-c", CASES], input=json.dumps(cases), cwd=ROOT, text=True,
                          capture_output=True, check=True)
    for (argv, says), line in zip(MISTAKES, done.stdout.splitlines(), strict=True):
        status, said = json.loads(line)
        assert status == 2 and said.startswith("error: ") and said.count("\n") == 1, (argv, said)
        assert says in said, (argv, said)


@pytest.mark.parametrize("argv, binary, how", [
    ([*TPU, "--steps=run"], "gcloud", "cloud.google.com/sdk"), (GKE, "xpk", "pip install 'xpk>=0.15'"),
    (SKY, "sky", "pip install 'skypilot>=0.11.2'"),
    (SLURM, "sbatch", "login node")])
def test_a_missing_binary_is_named_with_the_way_to_get_it(cloud, argv, binary, how):
    done = cloud.launch(*argv, "--", *RUN)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert binary in done.stderr and how in done.stderr


def test_help_is_the_docstring():
    done = subprocess.run([sys.executable, "-m", "tools.launch.slurm", "--help"], cwd=ROOT, text=True,
                          capture_output=True)
    assert "--steps=delete cancels the job" in done.stdout and "--[no]dry_run" in done.stdout


def test_the_launch_commands_in_the_documentation_are_accepted():
    blocks = "".join((ROOT / "docs" / page).read_text() for page in ("pods.md", "gpu.md")).split("```")[1::2]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("python -m tools.launch.")]
    cases = [[argv[2].rpartition(".")[2], "--dry_run", *argv[3:]] for argv in found]
    exported = dict(word.split("=") for line in lines if line.startswith("export ") for word in line.split()[1:])
    done = subprocess.run([sys.executable, "-c", CASES], input=json.dumps(cases), cwd=ROOT, text=True,
                          env=os.environ | exported, capture_output=True, check=True)
    results = list(map(json.loads, done.stdout.splitlines()))
    assert len(results) == len(cases) >= 10 and all(status == 0 for status, _ in results), results

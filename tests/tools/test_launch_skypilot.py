"""tools.launch.skypilot: the YAML that it prints, what its script runs, and what it refuses."""

import fnmatch
import os
import subprocess

import pytest
import yaml
from clouds import HOSTILE, ROOT, RUN, SKY, printed


def job(text):
    """The YAML of a printed job."""
    start, end = text.index("\n") + 1, text.index("\nEND_OF_TASK\n")
    assert text.startswith("cat > ")
    return yaml.safe_load(text[start:end + 1])


def test_a_job_on_gpus_names_its_machines_and_the_status_on_which_it_starts_again(cloud):
    text = printed(cloud, *SKY, "--name=sweep", "--infra=gcp/us-west4", "--spot", "--steps=delete,run,logs")
    found = job(text)
    assert (found["name"], found["workdir"], found["num_nodes"]) == ("sweep", ".", 2)
    assert found["resources"] == {
        "infra": "gcp/us-west4", "accelerators": "H100:8", "use_spot": True,
        "job_recovery": {"max_restarts_on_errors": 0, "recover_on_exit_codes": [75]}}
    assert "uv pip install -q -e '.[gpu,gcs]'" in found["setup"]
    assert [line for line in text.splitlines() if line.startswith("sky ")] == [
        "sky jobs launch --yes sweep.sky.yaml", "sky jobs logs --name=sweep --no-follow --tail=100",
        "sky jobs cancel --yes --name=sweep"]


def test_a_job_on_a_slice_has_its_runtime_and_no_flags_of_peers(cloud):
    found = job(printed(cloud, "skypilot", "--accelerator=v5p-128"))
    assert found["resources"]["accelerators"] == "tpu-v5p-128" and found["num_nodes"] == 1
    assert found["resources"]["accelerator_args"] == {"runtime_version": "v2-alpha-tpuv5"}
    assert "SCALING_COORDINATOR" not in found["run"] and "'.[tpu,gcs]'" in found["setup"]


def test_every_node_runs_the_words_of_the_command_and_knows_its_peers(cloud):
    """The script of the job runs in bash, with the variables that SkyPilot sets on each node."""
    words = ["bash", "-c", 'echo "$SCALING_COORDINATOR $SCALING_PROCESSES $SCALING_PROCESS"; exec "$@"', "said",
             *cloud.command(*HOSTILE)]
    found = job(printed(cloud, *SKY, "--name=sweep", command=words))
    (cloud.bin / "head").symlink_to("/usr/bin/head" if os.path.exists("/usr/bin/head") else "/bin/head")
    (cloud.path / "launch" / "sweep" / "venv" / "bin").mkdir(parents=True)
    (cloud.path / "launch" / "sweep" / "venv" / "bin" / "activate").touch()
    cloud.due({"0": [75]})
    for rank, status in ((0, 75), (1, 0)):
        done = subprocess.run(["bash", "-c", found["run"]], cwd=cloud.path, capture_output=True, text=True, env={
            "PATH": str(cloud.bin), "HOME": str(cloud.path), "SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.8",
            "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": str(rank)})
        assert (done.returncode, done.stdout) == (status, f"10.0.0.7:8476 2 {rank}\n"), done.stderr
    assert [arguments for arguments, _ in cloud.ran()] == [HOSTILE] * 2 and not list(cloud.path.rglob("pwned"))


def test_the_printed_job_is_the_one_submitted(cloud):
    cloud.fake("sky", "(here / 'submitted').write_text(open(argv[-1]).read()) if argv[1] == 'launch' else None")
    text = printed(cloud, *SKY, "--sky_option=--priority=10")
    done = cloud.launch(*SKY, "--sky_option=--priority=10", "--steps=run,delete", "--", *RUN)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((cloud.path / "submitted").read_text()) == job(text)
    launched, cancelled = cloud.calls(of="jobs")
    assert launched[:5] == ["sky", "jobs", "launch", "--yes", "--priority=10"] and cancelled[2] == "cancel"


LISTED = {name: [line.strip().removeprefix("**/").strip("/") for line in (ROOT / name).read_text().splitlines()
                 if line and not line.startswith("#")] for name in (".dockerignore", ".skyignore")}


def test_what_is_shipped_leaves_out_runs_and_environments():
    """The lists of docker and xpk, and of SkyPilot, are one; nothing that git keeps is on it."""
    assert LISTED[".dockerignore"] == LISTED[".skyignore"]
    assert {".git", "runs", "venv", ".venv", "build", "__pycache__", "*.egg-info"} <= set(LISTED[".skyignore"])
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if kept.returncode:
        pytest.skip("this is no checkout")
    parts = {part for path in kept.stdout.splitlines() for part in path.split("/")}
    assert not [part for part in parts for name in LISTED[".skyignore"] if fnmatch.fnmatch(part, name)]

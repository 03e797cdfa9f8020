"""tools.launch --dry_run: the commands of gcloud, xpk and SLURM that it prints."""

import shlex
import subprocess

from boxed_flags import Box
from clouds import GKE, PLACE, ROOT, RUN, SLURM, TPU, commands, printed

with Box():
    from tools.launch import common


def test_the_steps_of_a_pod_reach_every_worker(cloud):
    text = printed(cloud, *TPU, "--name=sweep", "--capacity=spot", f"--source={ROOT}",
                   "--steps=delete,logs,run,install,create")
    create, describe, pack, copy, install, run, logs, delete = commands(text)
    assert create[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "sweep"]
    assert {"--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--node-id=sweep",
            "--spot", *PLACE} <= set(create)
    assert describe[4:6] == ["describe", "sweep"] and pack[:2] == ["git", "-C"] and "--force" in delete
    for argv in (copy, install, run, logs):
        assert argv[:4] == ["gcloud", "compute", "tpus", "tpu-vm"] and "--worker=all" in argv
        assert set(PLACE) <= set(argv)
    for argv in (install, run, logs):
        script = next(a for a in argv if a.startswith("--command=")).removeprefix("--command=")
        assert shlex.split(script)[:2] == ["bash", "-c"] and len(shlex.split(script)) == 3
        assert subprocess.run(["bash", "-n", "-c", shlex.split(script)[2]], capture_output=True).stderr == b""
    assert "16 chips, 4 workers" in text and "status 75" in text and "uv pip install" in text


def test_several_slices_are_one_queued_resource_whose_workers_all_start_at_once(cloud):
    create, _, _, copy, install, run = commands(printed(cloud, *TPU, "--slices=3", f"--source={ROOT}"))
    assert {"--node-count=3", "--node-prefix=scaling"} <= set(create)
    for argv in (copy, install, run):
        assert "queued-resources" in argv and {"--node=all", "--worker=all", "--batch-size=all"} <= set(argv)


def test_shapes_and_git_sources_are_passed_on(cloud):
    text = printed(cloud, "tpu_vm", "--accelerator=v5p:4x4x8", *PLACE, "--noqueue",
                   "--source=https://example.org/me/scaling.git@feature/x")
    create, _, install, _ = commands(text)
    assert create[:4] == ["gcloud", "alpha", "compute", "tpus"] and "tpu-vm" in create
    assert {"--type=v5p", "--topology=4x4x8", "--version=v2-alpha-tpuv5"} <= set(create)
    assert "https://example.org/me/scaling.git feature/x" in " ".join(install)


def test_a_slice_of_flex_start_waits_in_the_queue_and_says_how_long_it_runs(cloud):
    text = printed(cloud, *TPU, "--capacity=flex_start", "--max_run_duration=7d", "--steps=create,delete")
    create, describe, delete = commands(text)
    assert create[:6] == ["gcloud", "alpha", "compute", "tpus", "queued-resources", "create"]
    assert {"--provisioning-model=flex-start", "--max-run-duration=7d"} <= set(create)
    assert "alpha" not in describe + delete


def test_variables_are_passed_on_but_not_those_of_this_machine(cloud):
    text = printed(cloud, *TPU, "--steps=run", "--env=XLA_FLAGS=--a --b", "--env=TOKEN", TOKEN="x y",
                   SCALING_DATA_DIR="gs://d", SCALING_CONFIG__OPTIM__NAME="muon", JAX_PLATFORMS="cpu", JAX_DEBUG_NANS="1")
    for word in ("SCALING_DATA_DIR=gs://d", "SCALING_CONFIG__OPTIM__NAME=muon", "JAX_DEBUG_NANS=1", "XLA_FLAGS=--a --b",
                 "TOKEN=x y"):
        assert word in text
    assert "JAX_PLATFORMS" not in text


def test_a_workload_has_the_options_of_its_jobset(cloud):
    create, logs, delete = commands(printed(cloud, *GKE, "--slices=2", "--max_restarts=7", "--name=sweep",
                                            "--steps=run,logs,delete"))
    assert {"--workload=sweep", "--cluster=tpus", "--tpu-type=v5litepod-16", "--num-slices=2",
            "--max-restarts=7", f"--restart-on-exit-codes={common.RESTART}", *PLACE} <= set(create)
    assert create[-1] == (
        f"--command=pip install --quiet --root-user-action=ignore -e '.[tpu,gcs]' && exec {shlex.join(RUN)}")
    assert "--selector=xpk.google.com/workload=sweep" in logs and delete[:3] == ["xpk", "workload", "delete"]
    [create] = commands(printed(cloud, *GKE, "--docker_image=gcr.io/p/i:1"))
    assert create[-1].startswith("--command=exec python")


def test_a_batch_script_has_nodes_gpus_requeue_and_shards(cloud):
    text = printed(cloud, *SLURM, "--time=1-12", "--shards=8", "--cpus_per_task=6", "--setup=. env.sh")
    for option in ("--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--requeue", "--time=1-12",
                   "--array=0-7", "--signal=TERM@120", "--open-mode=append", "--output=scaling-%a.out",
                   "--cpus-per-task=6"):
        assert f"\n#SBATCH {option}\n" in text
    assert '--shard="$SLURM_ARRAY_TASK_ID/8"\n' in text and "srun --cpus-per-task=6 python -m" in text
    one = printed(cloud, "slurm", "--gpus=8")
    assert "--ntasks-per-node=1\n" in one and "--array" not in one and "--shard" not in one


def test_flags_come_from_the_environment_unless_given(cloud):
    variables = {"LAUNCH_ZONE": "us-east1-d", "LAUNCH_PROJECT": "your-project", "LAUNCH_ACCELERATOR": "v6e-8",
                 "LAUNCH_STEPS": "create"}
    text = printed(cloud, "tpu_vm", "--project=my-project", **variables)
    assert "--zone=us-east1-d --project=my-project" in text and "v6e-8" in text and " ssh " not in text

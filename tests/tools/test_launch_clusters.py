"""tools.launch on GKE and SLURM: when a job starts again, which status it keeps, and which GPUs its processes have."""

import subprocess

import pytest
from boxed_flags import Box
from clouds import GKE, HOSTILE, SLURM, printed

with Box():
    from tools.launch import common

XPK = """
import argparse
parser = argparse.ArgumentParser()
for name in ("workload", "cluster", "zone", "project", "tpu-type", "command", "docker-image", "priority",
             "restart-on-exit-codes", "termination-grace-period-seconds"):
    parser.add_argument("--" + name)
parser.add_argument("--num-slices", type=int)
parser.add_argument("--max-restarts", type=int)
assert argv[:2] == ["workload", "create"]
args = parser.parse_args(argv[2:])
again = {42, *range(127, 256), *map(int, args.restart_on_exit_codes.split(","))}
assert args.command.isprintable()  # it goes into a YAML block
for _ in range(args.max_restarts + 1):
    pod = f"({args.command}) & PID=$!; wait $PID; exit $?"
    status = subprocess.call(["bash", "-c", pod])
    if status not in again:
        break
(here / "jobset").write_text(str(status))
"""


def test_a_jobset_starts_again_on_the_restart_status(cloud):
    cloud.fake("xpk", XPK)
    cloud.due({"0": [common.RESTART, 143, 3]})
    done = cloud.launch(*GKE, "--docker_image=gcr.io/p/i:1", "--", *cloud.command(*HOSTILE),
                        SCALING_DATA_DIR="gs://$(HOME)")
    assert done.returncode == 0, done.stderr
    assert cloud.ran() == [[HOSTILE, "gs://$(HOME)"]] * 3 and (cloud.path / "jobset").read_text() == "3"
    command = next(a for a in cloud.calls()[0] if a.startswith("--command="))
    assert "$(" not in command and "$$" not in command  # Kubernetes would expand them


SBATCH = """
script = sys.stdin.read()
(here / "script").write_text(script)
job = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}
for restarts in range(50):
    (here / "requeued").unlink(missing_ok=True)
    counted = {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
    status = subprocess.call(["bash", "-c", script], env=os.environ | job | counted)
    if not (here / "requeued").exists():
        break
(here / "job").write_text(str(status))
"""


def slurm(cloud):
    cloud.fake("sbatch", SBATCH)
    cloud.fake("srun", "sys.exit(subprocess.call(argv))")
    cloud.fake("scontrol", "(here / 'requeued').touch()")


def test_a_slurm_job_is_requeued_and_ends_when_it_is_done(cloud):
    slurm(cloud)
    cloud.due({"0": [common.RESTART, 137]})
    done = cloud.launch(*SLURM, "--shards=8", "--", *cloud.command(*HOSTILE))
    assert done.returncode == 0, done.stderr
    assert cloud.ran() == [[[*HOSTILE, "--shard=3/8"], None]] * 3
    assert (cloud.path / "job").read_text() == "0"
    assert [call[1:] for call in cloud.calls(of="scontrol")] == [["requeue", "17"]] * 2


@pytest.mark.parametrize("due, runs", [([3], 1), ([common.RESTART] * 9, 3)])
def test_a_slurm_job_that_fails_or_has_used_its_restarts_keeps_its_status(cloud, due, runs):
    slurm(cloud)
    cloud.due({"0": due})
    cloud.launch(*SLURM, "--max_restarts=2", "--", *cloud.command())
    assert len(cloud.ran()) == runs and (cloud.path / "job").read_text() == str(due[0])


@pytest.mark.parametrize("flags, shares", [
    (["--nodes=2", "--gpus=4"], [""] * 4), (["--nodes=2", "--gpus=4", "--tasks_per_node=1"], ["0,1,2,3"]),
    (["--gpus=8", "--tasks_per_node=2"], ["0,1,2,3", "4,5,6,7"]), (["--gpus=8"], [""])])
def test_every_process_of_a_job_gets_its_own_gpus(cloud, flags, shares):
    """No variable is set where JAX chooses rightly by itself: all GPUs for a lone process, or one for each of several."""
    slurm(cloud)
    cloud.fake("srun", """
tasks = next(l for l in (here / "script").read_text().splitlines() if "--ntasks-per-node" in l).rpartition("=")[2]
for task in range(int(tasks)):
    subprocess.call(argv, env=os.environ | {"SLURM_LOCALID": str(task)})
""")
    said = ["bash", "-c", 'echo "share:$JAX_LOCAL_DEVICE_IDS:$1"', "said", "it's $HOME"]
    done = cloud.launch("slurm", *flags, "--", *said)
    assert [line for line in done.stdout.splitlines() if "share" in line] == [f"share:{ids}:it's $HOME" for ids in shares]


def test_a_printed_batch_script_is_the_one_submitted(cloud):
    slurm(cloud)
    command = cloud.command(*HOSTILE)
    text = printed(cloud, *SLURM, "--shards=8", command=command)
    subprocess.run(["bash"], input=text, text=True, env={"PATH": str(cloud.bin)}, check=True, cwd=cloud.path)
    shown = (cloud.path / "script").read_text()
    cloud.launch(*SLURM, "--shards=8", "--", *command)
    assert (cloud.path / "script").read_text() == shown and not list(cloud.path.rglob("pwned"))
    assert cloud.ran()[0][0] == [*HOSTILE, "--shard=3/8"]

"""tools.launch: what the launchers print, what they refuse, and what they do with gcloud, xpk and sbatch.

The clouds are scripts on PATH that record their arguments and do what the real ones would: ssh to every
worker, keep a JobSet's restart policy, run a batch script. The command is a real one, which is told to stop
(exit status 75) the first time it runs.
"""

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from boxed_flags import Box

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is run from a checkout and not installed

with Box():
    from tools.launch import accelerators, common, remote, shell

PLACE = ["--zone=us-west4-a", "--project=my-project"]
TPU = ["tpu_vm", "--accelerator=v5e-16", *PLACE]
GKE = ["gke", "--accelerator=v5e-16", "--cluster=tpus", *PLACE]
SLURM = ["slurm", "--nodes=2", "--gpus=4"]
RUN = ["python", "-m", "experiments.run", "--config=configs/quickstart.py", "--workdir=gs://mine/sweep"]
HOSTILE = ["two words", "it's", '"both" \'kinds\'', "$(touch pwned)", "`touch pwned`", "$HOME", "$$(HOME)",
           "a\nEND_OF_SCRIPT\nb", "tab\there", "back\\slash\\x41", "", "*", "; touch pwned #", "--",
           "é\x85\u2028", "&& touch pwned", "{braces}", "!history", "~", "-n", "\x1b[31m\x7f1"]
# Writes its arguments, one JSON list a run, then fails with the status due at this run.
COMMAND = """
import json, os, pathlib, sys
here = pathlib.Path(sys.argv[1])
log = here / f"ran.{os.environ.get('WORKER', '0')}"
runs = len(log.read_text().splitlines()) if log.exists() else 0
with log.open("a") as f:
    f.write(json.dumps([sys.argv[2:], os.environ.get("SCALING_DATA_DIR")]) + "\\n")
due = json.loads((here / "statuses").read_text()).get(os.environ.get("WORKER", "0"), [])
sys.exit(due[runs] if runs < len(due) else 0)
"""


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


class Cloud:
    """A directory of fake executables; launchers see nothing else on PATH but these tools."""

    def __init__(self, path):
        self.path, self.bin = path, path / "bin"
        self.bin.mkdir()
        for tool in ["bash", "cat", "env", "flock", "git", "hostname", "mkdir", "seq", "setsid", "tail", "tee", "touch"]:
            (self.bin / tool).symlink_to(shutil.which(tool))
        (path / "command.py").write_text(COMMAND)
        self.due({})

    def due(self, statuses):
        (self.path / "statuses").write_text(json.dumps(statuses))

    def fake(self, name, body):
        """An executable that records its arguments in calls, then does `body`."""
        file = self.bin / name
        file.write_text(f"#!{sys.executable} -S\nimport json, os, pathlib, subprocess, sys\n"
                        f"here, argv = pathlib.Path({str(self.path)!r}), sys.argv[1:]\n"
                        f"with (here / 'calls').open('a') as f:\n"
                        f"    f.write(json.dumps([{name!r}, *argv]) + '\\n')\n{body}")
        file.chmod(0o755)

    def command(self, *words):
        return [sys.executable, "-S", str(self.path / "command.py"), str(self.path), *words]

    def launch(self, *argv, **variables):
        environment = {"PATH": str(self.bin), "PYTHONPATH": str(ROOT), "HOME": str(self.path), **variables}
        return subprocess.run([sys.executable, "-m", f"tools.launch.{argv[0]}", *argv[1:]], env=environment,
                              cwd=self.path, capture_output=True, text=True, timeout=60)

    def calls(self, *, of=""):
        lines = (self.path / "calls").read_text().splitlines() if (self.path / "calls").exists() else []
        return [call for call in map(json.loads, lines) if not of or of in call]

    def ran(self, worker=0):
        return [json.loads(line) for line in (self.path / f"ran.{worker}").read_text().splitlines()]


def printed(cloud, *argv, command=RUN, **variables):
    """The script that --dry_run prints, which bash takes for one."""
    done = cloud.launch(*argv, "--dry_run", "--", *command, **variables)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, capture_output=True).stderr == ""
    return done.stdout


def commands(text):
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


GCLOUD = """
state = here / "state"
if "describe" in argv:
    sys.exit(1) if not state.exists() else print(state.read_text(), end="")
elif "create" in argv:
    if state.exists():
        sys.exit("already exists")
    state.write_text("ACTIVE")
elif "delete" in argv:
    state.unlink()
elif "ssh" in argv:
    script = next(a for a in argv if a.startswith("--command=")).partition("=")[2]
    everyone = [subprocess.Popen(["bash", "-c", " ".join(script.split(" "))],
                                 env=os.environ | {"HOME": str(here / f"home{w}"), "WORKER": str(w)})
                for w in range(1 + max(map(int, json.loads((here / "statuses").read_text()))))]
    statuses = [p.wait() for p in everyone]
    taken = here / "preempted"
    if taken.exists() and "setsid" in script:
        state.write_text(taken.read_text())
        taken.unlink()
    sys.exit(next(filter(None, statuses), 0))
"""


# --- slices


@pytest.mark.parametrize("text, chips, hosts, cloud_name, xpk", [
    ("v5e-16", 16, 4, "v5litepod-16", "v5litepod-16"), ("v5litepod-8", 8, 1, "v5litepod-8", "v5litepod-8"),
    ("v5e:16x16", 256, 64, "v5litepod-256", "v5litepod-256"), ("v6e-1", 1, 1, "v6e-1", "v6e-1"),
    ("v4-8", 4, 1, "v4-8", "v4-8"), ("v5p-32", 16, 4, "v5p-32", "v5p-32"),
    ("v5p:4x4x8", 128, 32, "v5p-256", "v5p-4x4x8"), ("v5p:16x16x24", 6144, 1536, "v5p-12288", "v5p-16x16x24"),
    ("tpu7x-128", 64, 16, "tpu7x-128", "tpu7x-128"), ("ironwood:2x2x1", 4, 1, "tpu7x-8", "tpu7x-2x2x1")])
def test_a_slice_is_known_by_size_and_by_shape(text, chips, hosts, cloud_name, xpk):
    part = accelerators.parse(text)
    assert (part.chips, part.hosts, part.accelerator_type, part.xpk_type) == (chips, hosts, cloud_name, xpk)


@pytest.mark.parametrize("text, says", [
    ("v5e-12", "v5e-8"), ("v9-8", "v4, v5e, v5p, v6e, tpu7x"), ("v5p-4", "TensorCores"),
    ("v5e:4x5", "4x4, 4x8"), ("v5p:8x4x4", "ascending"), ("v5e:16", "mixes"), ("v5e-4x4", "mixes"),
    ("sixteen", "v5e-16"),
    ("v5p:16x16x28", "6144"), ("v5e-16; rm", "not a slice")])
def test_a_slice_that_does_not_exist_is_refused_with_ones_that_do(text, says):
    with pytest.raises(accelerators.AcceleratorError, match=says):
        accelerators.parse(text)


@pytest.mark.parametrize("name", accelerators.GENERATIONS)
def test_every_shape_has_a_size_and_whole_hosts(name):
    for shape in accelerators.shapes(name):
        by_shape = accelerators.parse(f"{name}:{shape}")
        by_size = accelerators.parse(f"{name}-{by_shape.chips * by_shape.of.cores}")
        assert by_size.chips == by_shape.chips and by_size.hosts == by_shape.hosts
        assert by_shape.chips < 8 or by_shape.chips % by_shape.hosts == 0


def test_runtimes_belong_to_their_generation():
    v5e, v5p = accelerators.parse("v5e-16"), accelerators.parse("v5p-8")
    assert accelerators.check_runtime(v5e, "") == "v2-alpha-tpuv5-lite"
    assert accelerators.check_runtime(v5p, "v2-alpha-tpuv5-next") == "v2-alpha-tpuv5-next"
    for part, version in ((v5p, "v2-alpha-tpuv5-lite"), (v5e, "v2-alpha-tpuv5"), (v5e, "tpu-vm-tf-2.18.0")):
        with pytest.raises(accelerators.AcceleratorError, match="does not belong"):
            accelerators.check_runtime(part, version)
    with pytest.raises(accelerators.AcceleratorError, match="tools.launch.gke"):
        accelerators.check_runtime(accelerators.parse("tpu7x-8"), "")


# --- quoting


@pytest.mark.parametrize("escape", ["", "$"])
def test_quoted_words_survive_bash_and_stay_on_one_line(escape):
    line = shell.join(HOSTILE, escape)
    assert "\n" not in line and not set(escape) & set(line.replace("$'", ""))
    once = subprocess.check_output(["bash", "-c", f"printf '%s\\0' {line}"])
    twice = subprocess.check_output(["bash", "-c", shell.bash(f"printf '%s\\0' {line}")])
    assert once == twice == b"".join(w.encode() + b"\0" for w in HOSTILE)


# --- what is printed


def test_a_pod_is_created_installed_run_and_deleted_and_every_worker_addressed(cloud):
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


def test_several_slices_are_one_queued_resource_and_no_worker_waits_for_another_batch(cloud):
    create, _, _, copy, install, run = commands(printed(cloud, *TPU, "--slices=3", f"--source={ROOT}"))
    assert {"--node-count=3", "--node-prefix=scaling"} <= set(create)
    for argv in (copy, install, run):
        assert "queued-resources" in argv and {"--node=all", "--worker=all", "--batch-size=all"} <= set(argv)


def test_a_shape_and_a_git_source_are_asked_for_by_name(cloud):
    text = printed(cloud, "tpu_vm", "--accelerator=v5p:4x4x8", *PLACE, "--noqueue",
                   "--source=https://example.org/me/scaling.git@feature/x")
    create, _, install, _ = commands(text)
    assert create[:4] == ["gcloud", "alpha", "compute", "tpus"] and "tpu-vm" in create
    assert {"--type=v5p", "--topology=4x4x8", "--version=v2-alpha-tpuv5"} <= set(create)
    assert "https://example.org/me/scaling.git feature/x" in " ".join(install)


def test_variables_are_passed_on_but_not_those_of_this_machine(cloud):
    text = printed(cloud, *TPU, "--steps=run", "--env=XLA_FLAGS=--a --b", "--env=TOKEN", TOKEN="x y",
                   SCALING_DATA_DIR="gs://d", SCALING_CONFIG__OPTIM__NAME="muon", JAX_PLATFORMS="cpu", JAX_DEBUG_NANS="1")
    for word in ("SCALING_DATA_DIR=gs://d", "SCALING_CONFIG__OPTIM__NAME=muon", "JAX_DEBUG_NANS=1", "XLA_FLAGS=--a --b",
                 "TOKEN=x y"):
        assert word in text
    assert "JAX_PLATFORMS" not in text


def test_a_workload_says_what_the_jobset_needs(cloud):
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


# --- what is refused


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
    ([*GKE, "--name=" + "a" * 41], "40"), ([*GKE, "--cluster=C"], "--cluster"),
    ([*GKE, "--accelerator=v5e-4"], "v5e-8"), ([*GKE, "--docker_image=a b"], "--docker_image"),
    ([*GKE, "--extras=tpu;ls"], "--extras"), ([*GKE, "--slices=0"], "--slices"),
    ([*SLURM, "--nodes=0"], "--nodes"), ([*SLURM, "--gpus=0"], "--gpus"), ([*SLURM, "--gpus=64"], "--nodes"),
    ([*SLURM, "--time=1h"], "12:00:00"), ([*SLURM, "--partition=a b"], "--partition"),
    ([*SLURM, "--tasks_per_node=3"], "divide"), ([*SLURM, "--shards=-1"], "--shards"),
    ([*SLURM, "--setup=a\nEND_OF_SCRIPT"], "one line"), ([*SLURM, "--sbatch_option=mem"], "--sbatch_option"),
    ([*SLURM, "--shards=2", "--", *RUN, "--shard=0/2"], "already has one"),
    ([*SLURM, "--"], "-- python -m experiments.run")]
# Each case in a process of its own, forked from one that has imported what they share.
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
    print(json.dumps([os.waitstatus_to_exitcode(os.wait()[1]), said]))
"""


def test_a_mistake_is_one_sentence_and_prints_no_command():
    cases = [[argv[0], "--dry_run", *argv[1:], *["--", *RUN] * ("--" not in argv)] for argv, _ in MISTAKES]
    done = subprocess.run([sys.executable, "-c", CASES], input=json.dumps(cases), cwd=ROOT, text=True,
                          capture_output=True, check=True)
    for (argv, says), line in zip(MISTAKES, done.stdout.splitlines(), strict=True):
        status, said = json.loads(line)
        assert status == 2 and said.startswith("error: ") and said.count("\n") == 1, (argv, said)
        assert says in said, (argv, said)


@pytest.mark.parametrize("argv, binary, how", [
    ([*TPU, "--steps=run"], "gcloud", "cloud.google.com/sdk"), (GKE, "xpk", "pip install xpk"),
    (SLURM, "sbatch", "login node")])
def test_a_missing_binary_is_a_sentence_that_says_how_to_get_it(cloud, argv, binary, how):
    done = cloud.launch(*argv, "--", *RUN)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert binary in done.stderr and how in done.stderr


# --- what is done


def test_a_pod_starts_again_when_one_worker_asks_and_ends_when_all_are_done(cloud):
    """Worker 0 fails because worker 2 was told to stop: gcloud reports worker 0's status only."""
    cloud.fake("gcloud", GCLOUD)
    cloud.due({"0": [1], "2": [common.RESTART], "3": [143]})
    done = cloud.launch(*TPU, "--steps=create,run,delete", "--poll_seconds=0", "--",
                        *cloud.command(*HOSTILE), SCALING_DATA_DIR="gs://it's $(data)")
    assert done.returncode == 0, done.stderr
    for worker in range(4):
        assert cloud.ran(worker) == [[HOSTILE, "gs://it's $(data)"]] * 2
    verbs = [next(v for v in ("describe", "create", "ssh", "delete") if v in call) for call in cloud.calls()]
    assert [v for v in verbs if v != "describe"] == ["create", "ssh", "ssh", "delete"]
    assert not list(cloud.path.rglob("pwned"))
    assert "launch: exit 75 on" in (cloud.path / "home2/launch/scaling/log").read_text() + done.stdout


@pytest.mark.parametrize("state", ["SUSPENDED", "PREEMPTED"])
def test_a_preempted_slice_is_made_again(cloud, state):
    cloud.fake("gcloud", GCLOUD)
    cloud.due({"0": [1]})
    (cloud.path / "preempted").write_text(state)
    done = cloud.launch(*TPU, "--steps=create,run", "--poll_seconds=0", "--", *cloud.command())
    assert done.returncode == 0, done.stderr
    assert len(cloud.calls(of="create")) == 2 and len(cloud.calls(of="delete")) == 1 and len(cloud.ran()) == 2


def test_a_failure_of_the_command_ends_it_and_leaves_the_slice(cloud):
    cloud.fake("gcloud", GCLOUD)
    cloud.due({"1": [3]})
    done = cloud.launch(*TPU, "--steps=create,run,delete", "--poll_seconds=0", "--", *cloud.command())
    assert done.returncode == 3 and len(cloud.ran()) == 1 and not cloud.calls(of="delete")
    assert "costs money" in done.stderr


def test_restarts_are_bounded(cloud):
    cloud.fake("gcloud", GCLOUD)
    cloud.due({"0": [common.RESTART] * 9})
    done = cloud.launch(*TPU, "--steps=create,run", "--poll_seconds=0", "--max_restarts=2", "--",
                        *cloud.command())
    assert done.returncode == common.RESTART and len(cloud.ran()) == 3


def test_what_a_lost_connection_left_is_told_to_save_and_waited_for(cloud):
    """The leftover writes on SIGTERM, as a run saves; the next one starts after it."""
    leftover = ("import pathlib, signal, sys, time\nsaved = pathlib.Path('saved')\n"
                "def save(*_): time.sleep(0.2); saved.write_text('x'); sys.exit(75)\n"
                "signal.signal(signal.SIGTERM, save)\npathlib.Path('up').touch()\ntime.sleep(30)\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(cloud.path)}
    first = subprocess.Popen(["bash", "-c", remote.run("a", [sys.executable, "-S", "-c", leftover])],
                             env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    src = cloud.path / "launch/a/src"
    while not (src / "up").exists():
        time.sleep(0.02)
    first.stdout.close()  # the connection is gone; the run is not
    second = subprocess.run(["bash", "-c", remote.run("a", ["cat", "saved"])], env=environment,
                            capture_output=True, text=True, timeout=20)
    assert second.returncode == 0 and second.stdout.startswith("x"), second
    assert first.wait(10) in (common.RESTART, 128 + signal.SIGPIPE, -signal.SIGPIPE)


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


def test_a_jobset_starts_again_on_the_status_it_is_given(cloud):
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
def test_every_process_of_a_job_is_told_which_gpus_are_its_own(cloud, flags, shares):
    """Nothing where JAX takes the right ones by itself: one of several processes the one of its number, a lone one all."""
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


def test_help_is_the_docstring():
    done = subprocess.run([sys.executable, "-m", "tools.launch.slurm", "--help"], cwd=ROOT, text=True,
                          capture_output=True)
    assert "--steps=delete cancels the job" in done.stdout and "--[no]dry_run" in done.stdout


def test_the_launchers_commands_in_the_documentation_are_accepted():
    blocks = "".join((ROOT / "docs" / page).read_text() for page in ("pods.md", "gpu.md")).split("```")[1::2]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("python -m tools.launch.")]
    cases = [[argv[2].rpartition(".")[2], "--dry_run", *argv[3:]] for argv in found]
    exported = dict(word.split("=") for line in lines if line.startswith("export ") for word in line.split()[1:])
    done = subprocess.run([sys.executable, "-c", CASES], input=json.dumps(cases), cwd=ROOT, text=True,
                          env=os.environ | exported, capture_output=True, check=True)
    results = list(map(json.loads, done.stdout.splitlines()))
    assert len(results) == len(cases) >= 10 and all(status == 0 for status, _ in results), results

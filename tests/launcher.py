"""Fixtures to start the tiny study as a user does: its corpus, environment and flags, and its results."""
import json
import os
import pathlib
import random

import pytest

ROOT = pathlib.Path(__file__).parents[1]


WORDS = "def class return self for in if else not and import from as with yield lambda None True x y z".split()


# In these two runs of one experiment may differ.
MEASURED = {"seconds", "device_seconds", "joules", "finished", "git_commit", "versions", "digest"}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Sixty files of words in an order that a model can learn, the same on every machine."""
    folder, rng = tmp_path_factory.mktemp("corpus"), random.Random(0)
    for i in range(60):
        word, text = rng.choice(WORDS), []
        for _ in range(400):
            word = WORDS[(WORDS.index(word) * 7 + rng.choice((1, 1, 1, 2, 5))) % len(WORDS)]
            text.append(word + rng.choice((" ", " ", "\n")))
        (folder / f"{i:02}.txt").write_text("".join(text))
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Two devices; the processes of all workers share what they compile and count."""
    return {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false",
        "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "SCALING_REMEMBERED": os.path.join(os.environ["JAX_COMPILATION_CACHE_DIR"], "remembered"),
        "SCALING_DATA_DIR": str(tmp_path_factory.mktemp("data")), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def flags_of(corpus):
    def flags(workdir, *more):
        return [f"--config={ROOT}/tests/tiny_study.py", f"--workdir={workdir}",
                f"--config.data.name=text:{corpus}/*.txt", *more]
    return flags


def results(workdir):
    """{fingerprint: record without the measured fields} of a workdir."""
    found = {}
    for path in sorted((workdir / "records").iterdir()):
        record = json.loads(path.read_text().splitlines()[-1])
        found[record["fingerprint"]] = {k: v for k, v in record.items() if k not in MEASURED}
    return found

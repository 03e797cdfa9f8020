"""Checkpoints of one device and of many are read by orbax alone, as docs/checkpoints.md says, on one device and on many."""

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from packaging.version import Version

from scaling.store.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[2]
BLOCKS = [code for code in re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/checkpoints.md").read_text(), re.M | re.S)
          if "orbax" in code]
NEW = Version(importlib.metadata.version("orbax-checkpoint")) >= Version("0.12")  # as the page says of its second way
READ = BLOCKS if NEW else BLOCKS[:1]
SAVED = {"params/model/weight": np.arange(32, dtype=np.float32).reshape(8, 4), "params/model/scale": np.ones(3, np.float32)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{"one", "many": a folder in which a checkpoint of one device, or of eight, lies where the page says}."""
    [path] = set(re.findall(r'"(runs/[\w/]+)/2340', "".join(BLOCKS)))
    found = {name: tmp_path_factory.mktemp(name) for name in ("one", "many")}
    for name, folder in found.items():
        tree = {path.rpartition("/")[2]: jnp.asarray(x) for path, x in SAVED.items()}
        if name == "many":
            mesh = Mesh(np.array(jax.devices()), ("data",))
            tree["weight"] = jax.device_put(tree["weight"], NamedSharding(mesh, PartitionSpec("data")))
        assert len(tree["weight"].sharding.device_set) == (8 if name == "many" else 1)
        saved = Checkpoints(folder / path)
        saved.save(2340, {"params": {"model": tree}}, {"experiment": {"family": {"name": "transformer"}}})
        saved.close()
    return found


def check(namespace):
    found = namespace["arrays"]
    assert found.keys() == SAVED.keys() and all(np.array_equal(found[path], x) for path, x in SAVED.items())


def test_the_page_has_both_ways():
    assert ["v1" in code for code in BLOCKS] == [False, True]


@pytest.mark.parametrize("saved", ["one", "many"])
def test_a_process_of_many_devices_reads_the_arrays(saved, folders, monkeypatch):
    monkeypatch.chdir(folders[saved])
    for code in READ:
        namespace = {}
        exec(code, namespace)
        check(namespace)
    if NEW:
        assert namespace["meta"]["experiment"] == {"family": {"name": "transformer"}} and namespace["meta"]["step"] == 2340


def test_a_process_of_one_device_reads_the_arrays_without_this_package(folders):
    code = "\n".join(line for folder in folders.values() for line in ("import os", f"os.chdir({str(folder)!r})", *READ))
    code += "\nimport jax, sys\nassert len(jax.devices()) == 1 and 'scaling' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    shapes = str({path: x.shape for path, x in sorted(SAVED.items())})
    assert done.stdout.splitlines() == [shapes, f"transformer {shapes}"][:len(READ)] * 2

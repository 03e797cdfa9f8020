"""Tests see eight CPU devices; shapes broadcast by accident are errors; no program is compiled twice."""

import atexit
import gc
import importlib.util
import mmap
import os
import pathlib
import shutil
import tempfile

# Most of a test's time is compilation, and three quarters of that are optimisation by LLVM and by the emitters
# of fusions; the graph that XLA chooses stays the same. LLVM gets each program as one module, since a third of the rest
# went into cutting programs as small as those of tests into parts to compile in parallel. `test_study.py` runs with all
# that users' programs get.
CHEAP = {"xla_backend_optimization_level": "0", "xla_cpu_use_fusion_emitters": "false",
         "xla_cpu_parallel_codegen_split_count": "1"}


def known(flag):
    """Whether this XLA has the flag: it dies of one that it does not have."""
    library = pathlib.Path(importlib.util.find_spec("jaxlib").origin).parent / "libjax_common.so"
    if not library.exists():
        return False
    with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(flag.encode() + b"\0") >= 0


if "SCALING_TEST_FLAGS" not in os.environ:  # else this is a worker
    os.environ["SCALING_TEST_FLAGS"] = " ".join(f"--{k}={v}" for k, v in CHEAP.items() if known(k))
os.environ["XLA_FLAGS"] = " ".join([  # where one is repeated, the last counts
    "--xla_force_host_platform_device_count=8", os.environ["SCALING_TEST_FLAGS"], os.environ.get("XLA_FLAGS", "")])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("SCALING_REMEMBERED", "off")  # tests count for themselves
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # else this is a worker, or the user has one
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

pytest_plugins = ["launcher", "object_store"]

LONGEST = ("devices/test_sharding", "training/test_train", "study/test_study", "study/test_study_images", "sweeps/test_ray",
           "families/test_gan", "devices/test_hosts", "families/test_vae", "families/test_transformer",
           "tools/test_bench_accelerator", "pods/test_pods")


def pytest_configure(config):
    config.option.loadscopereorder = False  # not by the number of tests but as ordered below


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no worker is left alone with one at the end."""
    def place(item):
        name = item.path.relative_to(pathlib.Path(__file__).parent).with_suffix("").as_posix()
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)
    items.sort(key=place)


MAPS = 20_000  # of a process's memory, of which Linux allows 65,530 and a compiled program takes about seven


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Forgets compiled programs between files before a process has so many that the system refuses memory to it."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPS:
        jax.clear_caches()
        gc.collect()

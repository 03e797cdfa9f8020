"""`pycode`: which files of Python source on this machine are the corpus, and the package of each."""
import importlib.metadata
import os
import re
import sysconfig
from pathlib import Path

from scaling.data.curate import File

# `environment` takes these when the package runs from a checkout that was not installed.
FALLBACK_REQUIREMENTS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "grain",
                         "absl-py", "ml-collections", "numpy", "scipy", "pandas", "matplotlib", "tqdm",
                         "etils", "tokenizers")

ELSEWHERE = {"site-packages", "dist-packages", "__pycache__"}  # folders that are not of the standard library


def stdlib() -> list[File]:
    """The `.py` files of the running Python's standard library.

    A file's package is its top-level module. A file under `test/` belongs to the module that it tests, so that a
    package is held out together with its tests. That module is the longest one whose name starts the test's name
    (`test/test_asyncio/...` belongs to `asyncio`), or `test` where there is none.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    names = []
    for folder, folders, found in os.walk(root):
        folders[:] = [name for name in folders if name not in ELSEWHERE]  # which hold ten times as many files
        inside = folder.removeprefix(os.fspath(root)).replace(os.sep, "/").strip("/")
        names += [f"{inside}/{name}" if inside else name for name in found if name.endswith(".py")]
    names.sort()
    modules = {_top(name) for name in names} - {"test"}

    def package(name: str) -> str:
        if not name.startswith("test/"):
            return _top(name)
        tested = re.sub(r"^_?test_", "", _top(name.removeprefix("test/")))
        return next((tested[:n] for n in range(len(tested), 0, -1) if tested[:n] in modules), "test")

    return [File(f"stdlib/{name}", root / name, package(name)) for name in names]


def _top(name: str) -> str:
    return name.split("/")[0].removesuffix(".py").strip("_") or name


def environment() -> list[File]:
    """The standard library, and every installed distribution that this one requires, directly or not."""
    try:
        wanted = _requirements(importlib.metadata.distribution("scaling"))
    except importlib.metadata.PackageNotFoundError:
        wanted = list(FALLBACK_REQUIREMENTS)
    files, seen = {file.name: file for file in stdlib()}, {"scaling"}
    while wanted:
        required = wanted.pop()
        if required in seen:
            continue
        seen.add(required)
        try:
            distribution = importlib.metadata.distribution(required)
        except importlib.metadata.PackageNotFoundError:      # it is for another platform or Python
            continue
        wanted += _requirements(distribution)
        for file in distribution.files or ():
            if file.suffix == ".py" and ".." not in file.parts:
                name = f"site-packages/{file.as_posix()}"
                files[name] = File(name, Path(file.locate()), file.parts[0].removesuffix(".py"))
    return list(files.values())


def _requirements(distribution: importlib.metadata.Distribution) -> list[str]:
    """The names of the distributions that one requires without extras, spelled as PEP 503 does."""
    required = [r for r in distribution.requires or () if "extra" not in r.partition(";")[2]]
    names = (re.match(r"[\w.-]+", r) for r in required)
    return [re.sub(r"[-_.]+", "-", name.group()).lower() for name in names if name]


CONFIGS = {"stdlib": stdlib, "environment": environment}

"""`pycode`, Python source that is on the machine already: which files, and the package of each."""
import importlib.metadata
import re
import sysconfig
from pathlib import Path

from scaling.data.curate import File

# What `environment` takes when this package is run from a checkout that was not installed.
FALLBACK_REQUIREMENTS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "grain",
                         "absl-py", "ml-collections", "numpy", "scipy", "pandas", "matplotlib", "tqdm",
                         "etils", "tokenizers")


def stdlib() -> list[File]:
    """The `.py` files of the running Python's standard library.

    A file's package is its top-level module. Those under `test/` belong to the module they test, the
    longest one whose name theirs starts with (`test/test_asyncio/...` to `asyncio`), so that a package is
    held out with its tests; where there is none, to `test`.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py")
                   if not {"site-packages", "dist-packages", "__pycache__"} & set(path.parts))
    modules = {_top(name) for name in names} - {"test"}

    def package(name: str) -> str:
        if not name.startswith("test/"):
            return _top(name)
        tested = re.sub(r"^_?test_", "", _top(name.removeprefix("test/")))
        return max((m for m in modules if tested.startswith(m)), key=len, default="test")

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
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:      # an alternative for another platform or Python
            continue
        wanted += _requirements(distribution)
        for file in distribution.files or ():
            if file.suffix == ".py" and ".." not in file.parts:
                name = f"site-packages/{file.as_posix()}"
                files[name] = File(name, Path(file.locate()), file.parts[0].removesuffix(".py"))
    return list(files.values())


def _requirements(distribution: importlib.metadata.Distribution) -> list[str]:
    """Names of what a distribution requires without extras, spelled as PEP 503 does."""
    required = [r for r in distribution.requires or () if "extra" not in r.partition(";")[2]]
    return [re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", r).group()).lower() for r in required]


CONFIGS = {"stdlib": stdlib, "environment": environment}

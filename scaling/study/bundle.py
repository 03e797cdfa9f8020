"""A study in one file, as for a paper's supplement: what its numbers rest on, and digests that show it is whole.

    bundle.pack("runs/quickstart", "quickstart.zip")
    bundle.unpack("quickstart.zip", "runs/theirs")     # then it is a workdir like any other

A bundle holds the records, curves, scores, fit, forecast, config, page and pictures of a workdir, without its locks,
checkpoints and, unless they are asked for, parameters. `bundle.json` in it lists every file with its SHA-256, the versions
and commits of the runs, and the packages that are installed with their licences.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import zipfile
from collections.abc import Iterator

from etils import epath

from scaling.results import records
from scaling.store import files, leftovers, strict_json
from scaling.store.prepared import file_digest

ABOUT = "bundle.json"
LEFT_OUT = ("checkpoints", "locks", "logs", "trunks")  # what only training needs
WEIGHTS = "params"
FORMAT = 1


class BundleError(files.WorkdirError):
    """A bundle that cannot be made or read; the message says why."""


def pack(workdir, path, weights: bool = False) -> dict:
    """Writes the study of `workdir` to the zip file `path`, and returns what its `bundle.json` says.

    With `weights` the parameters are in it. Raises BundleError where there is no study, or where `path` exists.
    """
    workdir, path = epath.Path(workdir).expanduser(), epath.Path(path).expanduser()
    if not (workdir / "records").is_dir():
        raise BundleError(f"{os.fspath(workdir)} holds no runs: there is no folder records/; name the workdir of a study")
    table, chosen = records.load_records(workdir), dict(sorted(_chosen(workdir, weights)))
    about = {"format": FORMAT, "weights": weights, "runs": len(table),
             "files": {name: file_digest(file) for name, file in chosen.items()},
             "commits": sorted({str(x) for x in table["git_commit"].dropna()}) if "git_commit" in table else [],
             "versions": {name.removeprefix("versions."): sorted({str(x) for x in table[name].dropna()})
                          for name in table if name.startswith("versions.")},
             "licences": licences()}
    try:
        with files.replacing(path, exclusive=True) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(_entry(ABOUT), strict_json.dumps(about, indent=1))
            for name, file in chosen.items():
                with file.open("rb") as source, archive.open(_entry(name), "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target)
    except FileExistsError:
        raise BundleError(f"{os.fspath(path)} exists and is not overwritten; name another file") from None
    return about


def unpack(path, workdir) -> dict:
    """Writes the study of a bundle into the new folder `workdir`, and returns what its `bundle.json` says.

    Raises BundleError for a file that is no bundle, is damaged or incomplete, and where `workdir` is not empty.
    """
    path, workdir = epath.Path(path).expanduser(), epath.Path(workdir).expanduser()
    if workdir.exists() and any(workdir.iterdir()):
        raise BundleError(f"{os.fspath(workdir)} is not empty, and nothing in it is overwritten; name a new folder")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            about = _checked_contents(archive)
            for name in about["files"]:
                (workdir / name).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, (workdir / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        said = f"is no bundle of a study, or is damaged: {error}; get it again"
        raise BundleError(f"{os.fspath(path)} {error if isinstance(error, BundleError) else said}") from None
    return about


def _checked_contents(archive: zipfile.ZipFile) -> dict:
    """What `bundle.json` says, once every digest was compared."""
    about = strict_json.loads(archive.read(ABOUT).decode())
    if about["format"] > FORMAT:
        raise BundleError(f"has format {about['format']}, and this version reads up to {FORMAT}; install a newer scaling")
    digests, there = about["files"], set(archive.namelist()) - {ABOUT}
    for name, digest in digests.items():
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise BundleError(f"has a file outside of its folder, {name}; do not trust it")
        if name not in there or _digest(archive, name) != digest:
            raise BundleError(f"is damaged: {name} is missing or was changed; get the bundle again")
    if more := sorted(there - digests.keys()):
        raise BundleError(f"has a file that does not belong to it, {more[0]}; get the bundle again")
    return about


def licences() -> dict[str, str]:
    """{package and version: licence} of `scaling` and of what it requires, as they say; "unknown" where they do not."""
    required = [text.split(";")[0] for text in importlib.metadata.requires("scaling") or [] if "extra ==" not in text]
    names = ["scaling", *(text.strip().split("[")[0].split(">")[0].split("=")[0].strip() for text in required)]
    found = {}
    for name in names:
        try:
            about = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        classes = [text.split("::")[-1].strip() for text in about.get_all("Classifier") or [] if text.startswith("License")]
        licence = about.get("License-Expression") or ", ".join(classes) or (about.get("License") or "").strip()
        found[f"{name} {about['Version']}"] = licence.splitlines()[0] if licence else "unknown"
    return found


def _chosen(workdir: epath.Path, weights: bool) -> Iterator[tuple[str, epath.Path]]:
    """(name in the bundle, file) of the files that belong to it."""
    left_out = {*LEFT_OUT, ABOUT} if weights else {*LEFT_OUT, ABOUT, WEIGHTS}
    for top in workdir.iterdir():
        if top.name not in left_out:
            yield from ((file.relative_to(workdir).as_posix(), file) for file in _files_in(top)
                        if not leftovers.TEMPORARY.fullmatch(file.name))


def _files_in(path: epath.Path) -> Iterator[epath.Path]:
    """A file itself, or all files below a folder; epath has no `rglob`."""
    if not path.is_dir():
        yield path
    else:
        for inside in path.iterdir():
            yield from _files_in(inside)


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without a time, so that equal workdirs give equal bundles."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry


def _digest(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

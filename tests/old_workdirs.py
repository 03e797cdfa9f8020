"""Workdirs of results version 2, which the fixtures keep packed."""

import pathlib
import tarfile

PACKED = pathlib.Path(__file__).parent / "fixtures" / "version_2"


def unpack_old(name, folder) -> pathlib.Path:
    """Unpacks one of them into a folder: its path."""
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python has filters from 3.11.4 on
    with tarfile.open(PACKED / f"{name}.tar.gz") as archive:
        archive.extractall(folder, **safely)
    return folder / name

"""Folders that are written whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import uuid
from collections.abc import Generator

from scaling.exchange.errors import ExchangeError
from scaling.store import files

FORMATS = ("hf", "safetensors", "stablehlo", "onnx")  # of `scaling.exchange.export`


def check_new(path) -> pathlib.Path:
    """The path of a local folder that does not exist or is empty; ExchangeError for any other."""
    path = pathlib.Path(os.fspath(path)).expanduser()
    if not files.is_local(os.fspath(path)):
        raise ExchangeError(f"{path} is not on a local disk; write a local folder, and copy it from there")
    if path.exists() and not path.is_dir():
        raise ExchangeError(f"{path} is a file; write the name of a new folder")
    if path.exists() and any(path.iterdir()):
        raise ExchangeError(f"{path} holds files already, which are never overwritten; write the name of a new folder")
    return path


@contextlib.contextmanager
def new_folder(path) -> Generator[pathlib.Path]:
    """Yields a temporary folder, which becomes `path` when the block succeeds, and is removed when it fails.

    Raises an ExchangeError where `path` holds files, is a file or cannot be written.
    """
    path = check_new(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with files.disk_full(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with open(file, "rb") as opened:
                        os.fsync(opened.fileno())
            check_new(path)
            temporary.rename(path)  # over an empty folder too
            files.sync_directory(path.parent)
        except PermissionError as error:
            raise ExchangeError(f"{path} cannot be written ({error.strerror}); write another folder") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

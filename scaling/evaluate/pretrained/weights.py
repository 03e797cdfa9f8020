"""Weights of pretrained networks: named arrays from a `.safetensors` or `.npz` file, and the hash that identifies them.

Published files are in torch's format. It is a pickle, which can run any code, so only torch itself reads it, in
`tools.convert_weights`. The converter keeps the published file's SHA-256 and a SHA-256 of the arrays in the metadata of
the `.safetensors` file that it writes.
"""
import hashlib
import pathlib
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from scaling.fields import EvaluateError
from scaling.store import files

SOURCE, ARRAYS = "source_sha256", "arrays_sha256"  # keys of the metadata


class WeightsError(EvaluateError):
    """A weights file is missing, cannot be read, or belongs to another network."""


class Weights(NamedTuple):
    arrays: dict[str, np.ndarray]
    sha256: str  # in hex: of the published file if the arrays were converted from one, else of the arrays


def read_weights(path) -> Weights:
    """The weights in a `.safetensors` or `.npz` file. Raises WeightsError with one sentence."""
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"there is no weights file {str(path)!r}: give the path of a .safetensors or .npz file")
    if path.suffix not in (".safetensors", ".npz"):
        raise WeightsError(f"weights file {str(path)!r} is neither .safetensors nor .npz: convert a file of torch by "
                           f"`python -m tools.convert_weights --input={path}`, and give the path that it prints")
    try:
        arrays, metadata = _read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)
    except Exception as error:  # a damaged file fails in as many ways as there are formats
        raise WeightsError(f"weights file {str(path)!r} cannot be read ({type(error).__name__}: {error}): "
                           "download or convert it again") from error
    found = arrays_digest(arrays)
    if metadata.get(ARRAYS, found) != found:
        raise WeightsError(f"weights file {str(path)!r} does not hold the arrays that were written to it: convert it again")
    return Weights(arrays, metadata.get(SOURCE, found))


def _read_npz(path):
    with np.load(path) as file:  # allow_pickle is off
        return dict(file), {}


def _read_safetensors(path):
    with safetensors.safe_open(path, framework="np") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def write_weights(path, arrays: dict[str, np.ndarray], source: str) -> None:
    """Writes a `.safetensors` file of arrays that were converted from a published file with the SHA-256 `source`."""
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    metadata = {SOURCE: source, ARRAYS: arrays_digest(arrays)}
    with files.disk_full(path), files.replacing(path) as temporary:
        safetensors.numpy.save_file(arrays, temporary, metadata)


def arrays_digest(arrays: dict) -> str:
    """SHA-256 in hex of named arrays: names, types, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        found.update(value.tobytes())
    return found.hexdigest()


class NamedArrays:
    """Hands out the arrays of a state dict by name and shape, and raises one sentence if one does not fit.

    `network` says in words whose weights the file should hold, for that sentence.
    """

    def __init__(self, arrays, network):
        self.arrays, self.network = arrays, network

    def __call__(self, name, shape=None):
        """The array `name` as float32. None in `shape`, or instead of it, stands for any size."""
        if name not in self.arrays:
            first = ", ".join(sorted(self.arrays)[:3]) or "none"
            raise WeightsError(f"this is not a file of {self.network}: it has no {name!r} (its first names "
                               f"are {first})")
        value = self.arrays[name]
        if shape is not None and (value.ndim != len(shape) or any(
                wanted not in (None, size) for wanted, size in zip(shape, value.shape, strict=True))):
            raise WeightsError(f"this is not a file of {self.network}: {name!r} has the shape {value.shape}, "
                               f"not {tuple(shape)}")
        return value.astype(np.float32)

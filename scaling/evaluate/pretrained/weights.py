"""Reading files of pretrained weights without the library that wrote them: {name: array}, and the file's
SHA-256.

`.pth` and `.pt` as `torch.save` writes a state dict, in the zip format (torch 1.6 and later) or the older one
(the Inception file of FID tools is of that kind), `.safetensors` and `.npz`. A pickle can run any code: the
reader here knows only the names that tensors of plain numbers need, and refuses all others.
"""
import collections
import hashlib
import json
import pathlib
import pickle
import zipfile

import ml_dtypes
import numpy as np

from scaling.fields import EvaluateError

_TYPES = {"DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
          "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
          "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_}
_SAFETENSORS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
                "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8,
                "BOOL": np.bool_}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class WeightsError(EvaluateError):
    """A weights file that is not there, cannot be read, or belongs to another network."""


def read(path) -> tuple[dict[str, np.ndarray], str]:
    """({name: array}, SHA-256 of the file in hex) of a `.pth`, `.pt`, `.safetensors` or `.npz` file."""
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"there is no weights file {str(path)!r}: download it, give its path as `weights`")
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:  # allow_pickle is off
                tensors = dict(file)
        elif path.suffix == ".safetensors":
            tensors = _safetensors(path.read_bytes())
        elif zipfile.is_zipfile(path):
            tensors = _zipped(path)
        else:
            tensors = _legacy(path)
    except WeightsError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as there are formats
        raise WeightsError(f"weights file {str(path)!r} cannot be read ({type(error).__name__}: {error}); it "
                           "must be a state dict saved by torch.save, a .safetensors or .npz file") from error
    for wrapper in ("state_dict", "model", "teacher"):
        if isinstance(tensors.get(wrapper), dict):
            tensors = tensors[wrapper]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {name: value for name, value in tensors.items() if isinstance(value, np.ndarray)}, digest


def digest(arrays: dict) -> str:
    """SHA-256 in hex of named arrays: names, types, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        found.update(value.tobytes())
    return found.hexdigest()


class Taken:
    """Hands out the arrays of a state dict by name and shape; what does not fit raises one sentence.

    `network` is what the file should hold, in words, for the message.
    """

    def __init__(self, tensors, network):
        self.tensors, self.network = tensors, network

    def __call__(self, name, shape=None):
        """The array `name`, float32; None in `shape` (or for all of it) stands for any size."""
        if name not in self.tensors:
            first = ", ".join(sorted(self.tensors)[:3]) or "none"
            raise WeightsError(f"this is not a file of {self.network}: it has no {name!r} (its first names "
                               f"are {first})")
        value = self.tensors[name]
        if shape is not None and (value.ndim != len(shape) or any(
                wanted not in (None, size) for wanted, size in zip(shape, value.shape, strict=True))):
            raise WeightsError(f"this is not a file of {self.network}: {name!r} has the shape {value.shape}, "
                               f"not {tuple(shape)}")
        return value.astype(np.float32)


def _safetensors(data):
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, stop = (8 + size + offset for offset in entry["data_offsets"])
            values = np.frombuffer(data[start:stop], _SAFETENSORS[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"])
    return tensors


class _Storage:
    """Numbers in a row, that tensors are views of; in the older format they come after the pickle."""

    def __init__(self, dtype, count, values=None):
        self.dtype, self.count, self.values = dtype, count, values


class _Tensor:
    """A view of a storage, made an array once the storage has been read."""

    def __init__(self, storage, offset, shape, strides):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self):
        values, size = self.storage.values, self.storage.dtype.itemsize
        reach = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) + 1
        inside = min((self.offset, *self.strides)) >= 0 and self.offset + reach <= len(values)
        if 0 not in self.shape and not inside:
            raise WeightsError("the weights file is damaged: a tensor reaches past the end of its numbers")
        view = np.lib.stride_tricks.as_strided(values[self.offset:], self.shape,
                                               [s * size for s in self.strides], writeable=False)
        return np.array(view)


class _Unpickler(pickle.Unpickler):
    """Unpickles a state dict and nothing else."""

    def __init__(self, file, storage):
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module in ("torch", "torch.storage") and name in _TYPES:
            return np.dtype(_TYPES[name])
        raise WeightsError(f"the weights file names {module}.{name}, which a state dict of plain tensors "
                           "does not; save it again with torch.save(model.state_dict(), path)")

    def persistent_load(self, identity):
        kind, dtype, key, _, count, *_ = identity
        if kind != "storage":
            raise WeightsError(f"the weights file holds a {kind!r}, which a state dict does not")
        return self._storage(dtype, key, count)


def _arrays(value):
    if isinstance(value, _Tensor):
        return value.array()
    return {k: _arrays(v) for k, v in value.items()} if isinstance(value, dict) else value


def _zipped(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        found = [n for n in names if n.endswith("/data.pkl")]
        if not found or any("/code/" in n for n in names):
            raise WeightsError(f"{str(path)!r} is no state dict (a TorchScript archive?); "
                               "save one with torch.save(model.state_dict(), path)")
        root, storages = found[0].removesuffix("data.pkl"), {}

        def storage(dtype, key, count):
            if key not in storages:
                values = np.frombuffer(archive.read(f"{root}data/{key}"), dtype)
                storages[key] = _Storage(dtype, count, values)
            return storages[key]

        with archive.open(found[0]) as file:
            return _arrays(_Unpickler(file, storage).load())


def _legacy(path):
    storages = {}

    def storage(dtype, key, count):
        return storages.setdefault(key, _Storage(dtype, count))

    with open(path, "rb") as file:
        magic, _version, _system = (_Unpickler(file, storage).load() for _ in range(3))
        if magic != _LEGACY_MAGIC:
            raise WeightsError(f"{str(path)!r} was not written by torch.save")
        value = _Unpickler(file, storage).load()
        for key in _Unpickler(file, storage).load():
            count = int.from_bytes(file.read(8), "little")
            if count != storages[key].count:
                raise WeightsError(f"{str(path)!r} is damaged: a storage is not as long as its header says")
            storages[key].values = np.frombuffer(file.read(count * storages[key].dtype.itemsize),
                                                 storages[key].dtype)
        return _arrays(value)

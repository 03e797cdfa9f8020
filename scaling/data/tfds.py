"""Data sets of TFDS by name: their builders, splits and features, with one sentence about what is wrong."""
import importlib
import pathlib

from scaling.fields import DataError, did_you_mean


def find_builder(name: str, data_dir: pathlib.Path):
    """The TFDS builder called `name`: prepared under `data_dir`, or where TFDS keeps its own data."""
    import tensorflow_datasets
    importlib.import_module("scaling.data.builders")  # its classes register themselves with TFDS
    own = data_dir if (data_dir / name.split("/")[0].split(":")[0]).exists() else None
    try:
        return tensorflow_datasets.builder(name, data_dir=own)
    except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        raise DataError(f"TFDS has no data set {name!r}, and none is prepared under {data_dir}"
                        + did_you_mean(name.split("/")[0], known)) from error
    except ValueError as error:
        raise DataError(f"tfds:{name}: {_first_line(error)}") from error


def open_split(builder, name: str, split: str):
    """The examples of a split, as a sequence that reads an example when it is indexed."""
    try:
        return builder.as_data_source(split)
    except Exception as error:  # TFDS raises many kinds; each means that these files cannot be read
        raise DataError(
            f"tfds:{name} ({split}) is not prepared as array_record in {builder.data_dir} "
            f"({_first_line(error)}); run tfds.builder({name!r}, file_format='array_record')"
            ".download_and_prepare() where there is a network, and set data_dir= or $TFDS_DATA_DIR to "
            "the directory that it wrote") from error


def find_feature(name: str, features, wanted: str) -> str:
    """The feature called `wanted` ("text" or "image"), or else the only feature of that kind; raises DataError."""
    from tensorflow_datasets import features as kinds
    kind = {"text": kinds.Text, "image": kinds.Image}[wanted]
    found = [key for key, value in dict(features).items() if isinstance(value, kind)]
    if wanted in found:
        return wanted
    if len(found) == 1:
        return found[0]
    raise DataError(f"tfds:{name} has no feature called {wanted!r}, and not exactly one {wanted} feature; "
                    f"it has {', '.join(dict(features))}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"

"""Data sets of TFDS by name: their builders, splits, features and files, with one sentence about what is wrong."""
import importlib
import pathlib
import re

from scaling.data.digests import content_digest
from scaling.fields import DataError, did_you_mean

WHOLE = 8 << 30          # bytes of shards; of a larger data set the names and sizes of files name the content


def find_builder(name: str, data_dir: pathlib.Path):
    """The TFDS builder called `name`: prepared under `data_dir`, or where TFDS keeps its own data."""
    import tensorflow_datasets
    importlib.import_module("scaling.data.builders")  # its classes register themselves with TFDS
    first = re.match(r"\w*", name)[0]
    own = data_dir if first and (data_dir / first).exists() else None
    try:
        return tensorflow_datasets.builder(name, data_dir=own)
    except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        raise DataError(f"TFDS has no data set {name!r}, and none is prepared under {data_dir}"
                        + did_you_mean(name.split("/")[0], known)) from error
    except Exception as error:  # a config or version that is not there, damaged files: TFDS raises many kinds
        raise DataError(f"tfds:{name}: {first_line(error)}{_versions(name, own)}") from error


def _versions(name: str, own: pathlib.Path | None) -> str:
    """What is prepared of a data set, for a name with a config or version that is not there."""
    if own is None:
        return ""
    folder = own / re.match(r"\w*", name)[0]
    found = sorted(path.parent.relative_to(own).as_posix() for path in folder.glob("**/dataset_info.json"))
    shown = [f"tfds:{'/'.join(path.split('/')[:-1])}:{path.split('/')[-1]}" for path in found]
    return f"; prepared under {own} are {', '.join(shown)}" if shown else ""


def check_split(builder, name: str, split: str) -> None:
    """Raises DataError if a data set that is prepared has other splits, but not this one."""
    known = list(builder.info.splits)
    if known and split not in known:
        raise DataError(f"tfds:{name} has no split called {split!r}; it has {', '.join(known)}. Training reads {split!r}: "
                        "build the data set with a split of that name, or export its text or images to files and read "
                        "those (text:<folder>, images:<folder>)")


def shards_digest(builder, data_dir: pathlib.Path) -> list[str]:
    """A hash of the files of a prepared data set, in a list; [] where they are not on this machine.

    A data set that is built again with other content keeps its name, version and, often, its sizes.
    """
    directory = pathlib.Path(builder.data_dir)
    shards = sorted(path for path in directory.glob("*") if path.is_file() and path.name != "dataset_info.json")
    if not shards or sum(path.stat().st_size for path in shards) > WHOLE:
        return [f"{path.name} {path.stat().st_size}" for path in shards]
    return [content_digest(shards, data_dir / "index", True, f"tfds:{builder.info.full_name}")]


def open_split(builder, name: str, split: str, decoders=None):
    """The examples of a split, as a sequence that reads an example when it is indexed."""
    check_split(builder, name, split)
    try:
        return builder.as_data_source(split, decoders=decoders)
    except Exception as error:  # TFDS raises many kinds; each means that these files cannot be read
        raise DataError(
            f"tfds:{name} ({split}) is not prepared as array_record in {builder.data_dir} "
            f"({first_line(error)}); run tfds.builder({name!r}, file_format='array_record')"
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


def first_line(error: Exception) -> str:
    """The kind and the first line of an error, without TFDS's preface about arguments."""
    lines = str(error).strip().splitlines()
    said = re.sub(r"^Failed to construct dataset .*?\}\": ", "", lines[0]) if lines else ""
    return f"{type(error).__name__}: {said[:300]}"

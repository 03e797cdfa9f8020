"""Runs of every family as safetensors: all parameters by their paths, and what determined the run.

    model.safetensors   an array for each path, such as "model/embed/weight"; its metadata say the axes of each
    config.json         the experiment, its fingerprint, and the versions that made it
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scaling import axes
from scaling import experiment as experiments
from scaling.exchange.errors import ExchangeError
from scaling.exchange.plain import flat_arrays, from_flat
from scaling.results import records
from scaling.store import checkpoint, files

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def described(run) -> dict[str, Any]:
    """What an exported folder says about a restored run."""
    return {"fingerprint": run.fingerprint, "experiment": experiments.to_dict(run.experiment), "step": run.step,
            "versions": records.versions(), "git_commit": records.git_commit()}


def write_arrays(folder: pathlib.Path, params, name: str = WEIGHTS) -> None:
    """Writes parameters by their paths. The metadata hold JSON: {path: names of axes}."""
    arrays = {path: np.ascontiguousarray(x) for path, x in flat_arrays(params).items()}
    named = jax.tree.leaves(axes.names(params))
    metadata = {path: list(own) for (path, _), own in zip(checkpoint.flatten(params)[0], named, strict=True)}
    save_file(arrays, folder / name, metadata={"format": "flax", "axes": json.dumps(metadata)})


def write_run(folder: pathlib.Path, run) -> None:
    """Writes a restored run of any family; see above."""
    write_arrays(folder, run.params)
    files.write_json(folder / CONFIG, described(run))


def read_exported(folder) -> tuple[experiments.Experiment, Any]:
    """(the experiment, its parameters) of a folder that `experiments.export --format=safetensors` wrote.

    The parameters are those of `experiment.family`: `experiment.family.evaluate(params, batch, key)`. Raises an
    ExchangeError for a folder that holds no such run, and DamagedFile for one that was altered.
    """
    folder = pathlib.Path(folder).expanduser()
    try:
        said = files.read_json(folder / CONFIG)
        experiment = experiments.from_dict(said["experiment"])
        arrays = read_tensors(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise ExchangeError(f"{folder} has no {pathlib.Path(error.filename or WEIGHTS).name}: write a folder that "
                            "experiments.export --format=safetensors made") from None
    except (KeyError, TypeError) as error:
        raise ExchangeError(f"{folder / CONFIG} holds no experiment ({error}): write a folder that experiments.export "
                            "--format=safetensors made") from None
    return experiment, from_flat(experiment.family, arrays)


def read_tensors(path: pathlib.Path) -> Mapping[str, np.ndarray]:
    """{name: array} of a safetensors file. FileNotFoundError, or ExchangeError for one that cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except SafetensorError as error:
        raise ExchangeError(f"{path} cannot be read ({error}); restore it") from None

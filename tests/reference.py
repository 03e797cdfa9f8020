"""Published data to check against. Tests skip if the reference folder is not beside the project."""
import json
import os
import pathlib

import pandas as pd
import pytest

FOLDER = pathlib.Path(os.environ.get("SCALING_REFERENCE", pathlib.Path(__file__).parents[2] / "shared" / "reference"))


def case(name):
    """(data as a DataFrame, content of expected.json) of a published case."""
    folder = FOLDER / name
    if not (folder / "expected.json").exists():
        pytest.skip(f"no reference data at {folder}; set SCALING_REFERENCE to the folder that holds {name}")
    return pd.read_csv(folder / "data.csv"), json.loads((folder / "expected.json").read_text())

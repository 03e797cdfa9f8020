"""A sweep of two lengths that trains in a second."""

import numpy as np
import pytest

from scaling import experiment
from scaling.experiment import grid

LENGTHS = 2560, 10240  # tokens of the two runs: 10 and 40 steps


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("books")
    rng = np.random.default_rng(0)
    for i in range(6):
        (folder / f"{i}.txt").write_text("\n".join("".join(rng.choice(list("abcdefgh "), 60)) for _ in range(150)))
    base = experiment.from_config(experiment.config("transformer")).replace({
        "data.name": f"text:{folder}/*.txt", "data.length": 16, "data.batch": 16, "data.evaluation_tokens": 34,
        "data.data_dir": str(folder / "data"), "optim.warmup": 2})
    base = base.replace({"family": type(base.family)(vocab=256, length=16, width=16, layers=1)})
    return grid(base, {"data.tokens": LENGTHS})

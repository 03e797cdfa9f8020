"""The quick versions of the image studies, as a user starts them, show the expected trends."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from scaling.results import records, tuned

ROOT = pathlib.Path(__file__).parents[2]
METRIC = {"vae": "bits_per_dim", "gan": "fd_infinity_relative"}


@pytest.mark.slow
@pytest.mark.parametrize("family", METRIC)
def test_the_quick_study_improves_with_size_and_data_and_checks_its_forecast(family, tmp_path):
    flags = [f"--config={ROOT}/configs/{family}_scaling.py:quick", f"--workdir={tmp_path}"]
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")}
    ran = subprocess.run([sys.executable, "-m", "experiments.run", *flags], cwd=ROOT, env=environment,
                         capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    metric = METRIC[family]
    cells = tuned.tuned_cells(tuned.clean(records.load_records(tmp_path), metric), metric)
    table = cells.pivot(index=tuned.PARAMS, columns="data", values=metric).to_numpy()
    assert table.shape == (3, 3) and np.isfinite(table[:, :2]).all()
    assert (table[-1, :2] < table[0, :2]).all() and (table[:2, -1] < table[:2, 0]).all()
    check = json.loads((tmp_path / "forecast_check.json").read_text())
    assert check["observed"] < np.nanmin(table) * 1.02  # more parameters and data are better than every run of the sweep
    assert "data:image/png" in (tmp_path / "report" / "index.html").read_text()

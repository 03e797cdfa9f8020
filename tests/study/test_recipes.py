"""Rate curves of the configs of recipes: the best rate moves by less than a step of the grid over width and depth."""

import os
import pathlib
import subprocess
import sys

import pytest
from boxed_flags import Box

from scaling.results import rates

with Box():
    from tools import draw_recipes

ROOT = pathlib.Path(__file__).parents[2]
STEP = 2.0  # the factor between neighbouring rates of the configs
SHORT = 128 * 1024  # tokens: 128 steps
CLAIMS = {"width": 16, "layers": 16}  # what the curves differ in: the factor over which one rate must serve


def spread(curves):
    """Largest over smallest best rate; none of them may be at an edge."""
    best = {value: rates.vertex(curve) for value, curve in curves.items()}
    assert not any(edge for *_, edge in best.values()), best
    found = [rate for rate, *_ in best.values()]
    return max(found) / min(found)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize(("config", "along", "values"), [("width", "width", "widths=(16, 64, 256)"),
                                                         ("depth", "layers", "depths=(2, 8, 32)")])
def test_one_rate_serves_a_factor_of_sixteen(config, along, values, optimiser, tmp_path):
    flags = [f"--config={ROOT}/configs/recipe_{config}.py:{optimiser}", f"--workdir={tmp_path}", f"--config.{values}",
             f"--config.data.tokens={SHORT}", "--config.learning_rates=(4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)"]
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")}
    ran = subprocess.run([sys.executable, "-m", "experiments.run", *flags], cwd=ROOT, env=environment,
                         capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    curves = draw_recipes.curves(tmp_path, along, "bits_per_byte")
    assert max(curves) / min(curves) >= CLAIMS[along]
    assert spread(curves) < STEP

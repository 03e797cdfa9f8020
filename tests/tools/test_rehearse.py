"""The rehearsal of a study: its standard errors are those of repeated fits, its seeds narrow a forecast, and its rules err
less where the truth is a law that they can take."""

import numpy as np
import pandas as pd
import pytest
import tiny_ladder
from boxed_flags import Box
from planted_table import TRUTH, table_of

from scaling import laws
from scaling.fields import ConfigError
from scaling.study import configs

with Box():
    from tools import rehearse

N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 3e10, 5)))
CELLS = pd.DataFrame({"N": N, "D": D, "C": 6 * N * D, "seeds": np.arange(25) % 3 + 1})
DESIGN = rehearse.Design(CELLS, {"N": 4e9, "D": 1e11}, 13.0)


def records(seeds):
    """Of the planted law, which scatters by 0.3%."""
    rng = np.random.default_rng(5)
    return pd.DataFrame([
        {"fingerprint": f"{cell}-{seed}", "params_non_embedding": run.params, "tokens_seen": run.tokens, "seed": seed,
         "tokens_unique": run.tokens, "learning_rate": 0.01, "loss": run.loss * np.exp(0.003 * rng.standard_normal())}
        for cell, run in enumerate(table_of(N, D).itertuples()) for seed in range(seeds)])


@pytest.fixture(scope="module")
def pilot():
    return rehearse.Pilot.of_records(records(2), "loss")


def test_the_pilot_shows_its_scatter_and_keeps_the_law_that_is_true(pilot):
    assert pilot.scatter == pytest.approx(0.003, rel=0.3)
    assert "chinchilla" in pilot.truths and "kaplan" not in pilot.truths
    assert pilot.truths["chinchilla"].params["alpha"] == pytest.approx(TRUTH["alpha"], abs=0.03)


def test_the_standard_error_is_that_of_repeated_fits(pilot):
    law, rng, said = pilot.truths["chinchilla"], np.random.default_rng(1), []
    for _ in range(60):
        noise = pilot.scatter * rng.standard_normal(25) / np.sqrt(CELLS["seeds"])
        table = CELLS[["N", "D", "seeds"]].assign(loss=law.predict(N=N, D=D) * np.exp(noise))
        again = laws.fit(table, "chinchilla", loss="mse_log", weights="seeds", near=[law], quick=True)
        said.append(np.log(float(again.predict(**DESIGN.target))))
    promised = np.sqrt(rehearse.variances(DESIGN, pilot)["chinchilla"].sum())
    assert np.std(said) == pytest.approx(promised, rel=0.3)  # 60 fits show it within 9%


def test_better_seeds_cost_the_same_and_narrow_the_forecast(pilot):
    before = rehearse.variances(DESIGN, pilot)["chinchilla"]
    moved = rehearse.better_seeds(DESIGN, before / before.sum())
    assert (moved * CELLS["C"]).sum() == pytest.approx(DESIGN.flops)
    after = rehearse.variances(rehearse.Design(CELLS.assign(seeds=np.maximum(moved, 1e-3)), DESIGN.target, 13.0), pilot)
    assert after["chinchilla"].sum() < 0.9 * before.sum()


def test_without_noise_the_true_law_is_right_and_another_is_not(pilot):
    truth = pilot.truths["chinchilla"]
    rows = {row["rule"]: row for row in rehearse.rehearse(DESIGN, truth, 0.0, ("chinchilla", "kaplan", "best"), 0)}
    assert abs(rows["chinchilla"]["error"]) < 1e-4 and abs(rows["best"]["error"]) < 1e-3  # or holds it
    assert abs(rows["kaplan"]["error"]) > 0.01


def test_a_pilot_of_one_seed_is_refused():
    with pytest.raises(ConfigError, match="train two or more"):
        rehearse.Pilot.of_records(records(1), "loss")


def test_a_study_says_its_cells_and_its_ratio():
    design = rehearse.Design.of_study(configs.define_study(tiny_ladder, tiny_ladder.get_config()))
    assert list(design.cells["D"]) == [2560, 5120, 10240] and set(design.cells["seeds"]) == {2}
    assert design.target["D"] == 40_960 and design.target["N"] == design.cells["N"][0]
    assert design.ratio == pytest.approx(4)

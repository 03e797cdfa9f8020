"""The rule of the claim on GANs of text gives the right verdicts on points whose truth is planted."""

import numpy as np
import pandas as pd
import pytest
from claims.planted import most

from experiments import claims
from experiments.claims import curve
from scaling.claims import REFUTED, REPRODUCED, UNDECIDED
from scaling.experiment import bases
from scaling.experiment.start import taken


def front(self_bleu):
    """BLEU of a language model whose samples have this self-BLEU."""
    return 60 * (1 - np.exp(-np.asarray(self_bleu) / 30))


def points(ahead, noise=0.2, seeds=3, study=0):
    """Points of a language model on a front, and of games at temperature 1 that lie above it by `ahead` of their kind."""
    rng, rows = np.random.default_rng(study), []
    for seed in range(seeds):
        for temperature in curve.TEMPERATURES:
            for kind in (curve.MODEL, *curve.GAMES):
                at = 80 - 50 * temperature + (0 if kind == curve.MODEL else 10)
                rows.append({"seed": seed, "kind": kind, "temperature": temperature, "self_bleu": at + rng.normal(0, noise),
                             "bleu": front(at) + ahead.get(kind, 0.0) + rng.normal(0, noise)})
    return pd.DataFrame(rows)


def verdicts(ahead, **options):
    claim = claims.find("curve")
    return [claim.decide(curve.judge(points(ahead, study=study, **options))) for study in range(4)]


def test_games_on_or_below_the_curve_reproduce_the_claim_and_one_above_it_refutes_it():
    assert most(verdicts({}), REPRODUCED) and most(verdicts({"game": -8.0, "mixed": -3.0}), REPRODUCED)
    assert most(verdicts({"game": 4.0}), REFUTED) and most(verdicts({"game": -8.0, "mixed": 3.0}), REFUTED)


def test_what_the_noise_of_seeds_hides_is_undecided():
    assert most(verdicts({"game": 1.0, "mixed": 1.0}, noise=1.5), UNDECIDED)


def test_more_quality_for_less_variety_is_no_lead():
    """A colder point of the same front has a higher BLEU, and is no better."""
    model = points({})[lambda t: t["kind"] == curve.MODEL]
    cold = model[model["temperature"] == 0.5].assign(kind="game")
    assert cold["bleu"].mean() > model[model["temperature"] == 1.0]["bleu"].mean() + 5
    assert curve.ahead(cold, model) == pytest.approx(0, abs=1.0)


def test_a_collapsed_game_is_compared_with_the_coldest_samples():
    model = points({}, noise=0.0)[lambda t: t["kind"] == curve.MODEL]
    alike = pd.DataFrame([{"self_bleu": 100.0, "bleu": 30.0}])
    assert curve.ahead(alike, model) == pytest.approx(30 - model["bleu"].max())


@pytest.mark.parametrize("budget", ["5m", "30m"])
def test_every_game_begins_with_the_language_model_of_its_seed(budget):
    [part] = curve.parts(budget).values()
    models = [run for run in part.sweep if run.start is None]
    for run in part.sweep:
        if run.start is not None:
            assert bases(run)[0] in models and bases(run)[0].seed == run.seed
            assert {path.split("/")[0] for path in taken(run)} == {"gen"} and run.data.samples == curve.SAMPLES
    assert len(part.sweep) == (1 + len(curve.GAMES)) * len(models)

"""The rule of `modalities` gives the right verdicts on records whose truth is planted."""

import numpy as np
import pytest
from claims.planted import most, planned

from experiments import claims
from experiments.claims import modalities
from scaling.claims import REFUTED, REPRODUCED, Trained


def records(study, text=-0.02, image=-0.05, information=0.5, competition=-0.02):
    """A table of the 5-minute runs: slopes in log10 N, bits for a factor of ten, the change of what models of both lose.
    """
    table, rng = planned("modalities", "multimodal").copy(), np.random.default_rng(study)
    runs = claims.find("modalities").parts("5m")["multimodal"].sweep
    kind = np.array(["both" if run.family.share == 0.5 else "text" if run.family.share else "image" for run in runs])
    log_size = np.log10(table["params_non_embedding"])
    place = (log_size - log_size.min()) / (log_size.max() - log_size.min())
    for name, slope in (("text", text), ("image", image)):
        moved = np.where(kind == "both", competition * place, 0) + rng.normal(0, 0.002, len(kind))
        loss = 2 * np.exp(slope * log_size + moved)
        table[f"loss_{name}"] = np.where((kind == "both") | (kind == name), loss, np.nan)
    told = 1 + information * log_size + rng.normal(0, 0.03, len(kind))
    table["image_information"] = np.where(kind == "both", told, np.nan)
    return table


def verdicts(rule, **truth):
    claim, found = claims.find("modalities"), []
    for study in range(4):
        finding = claim.analyse("multimodal", Trained(records(study, **truth), ""))
        found.append(claim.rules[rule].decide(finding.estimates[rule]))
    return found


@pytest.mark.parametrize("rule,holds,fails", [
    ("text_falls", {"text": -0.05}, {"text": 0.05}), ("image_falls", {"image": -0.08}, {"image": 0.06}),
    ("information", {"information": 0.6}, {"information": -0.2}),
    ("competition", {"competition": -0.03}, {"competition": 0.03})])
def test_each_rule_is_reproduced_where_it_is_true_and_refuted_where_it_is_not(rule, holds, fails):
    steady = {"competition": 0.0} if rule.endswith("falls") else {}
    assert most(verdicts(rule, **{**steady, **holds}), REPRODUCED)
    assert most(verdicts(rule, **{**steady, **fails}), REFUTED)


def test_models_of_one_modality_see_the_pairs_of_the_model_of_both():
    runs = modalities.parts("5m")["multimodal"].sweep
    alone = [run for run in runs if run.family.share != 0.5]
    assert len(runs) == 24 and len(alone) == 12
    for run in alone:
        both = [other for other in runs if other.family.share == 0.5 and (other.family.width, other.seed) == (
            run.family.width, run.seed)]
        assert [(e.data.examples, e.data.batch, e.start, e.family.model) for e in both] == [
            (run.data.examples, run.data.batch, run.start, run.family.model)]

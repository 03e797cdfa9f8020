"""configs/forecasts.py: every study of the table is what its name says, and its fitted runs are those of its group."""

import functools
import pathlib

import pytest

from scaling import cost
from scaling.study import configs

PATH = f"{pathlib.Path(__file__).parents[2]}/configs/forecasts.py"
MODULE = configs.load_config(PATH)
# Plans of one family differ in their data alone, apart from those of Transformers.
QUICK = ("transformer-hmm",)
GROUPS = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in MODULE.PLANS]


def study(name):
    return configs.define_study(MODULE, configs.read_config(f"{PATH}:{name}"))


@functools.cache
def flops_of_one(family):
    return cost.train_flops(family, 8) / 8


def flops(experiment):
    """FLOPs of a run, which hardly depend on its batch."""
    return flops_of_one(experiment.family) * experiment.data.batch * experiment.data.steps


@pytest.mark.parametrize("group", GROUPS)
def test_targets_have_the_ratio_of_their_name_and_share_the_fitted_runs(group):
    studies = {ratio: study(f"{group}-{ratio}") for ratio in MODULE.RATIOS}
    first = studies[MODULE.RATIOS[0]].sweep
    widths = {run.family.width for run in first}
    for ratio, found in studies.items():
        assert found.sweep == first
        target = found.targets(1.0)
        assert len({run.seed for run in target}) == len(target) >= (1 if ratio == 300 else 3)
        assert flops(target[0]) / max(map(flops, first)) == pytest.approx(ratio, rel=0.06)
        assert target[0].family.width not in widths or target[0].data.seen > max(run.data.seen for run in first)
        assert target[0].family.layers == first[0].family.layers


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_cells_for_the_largest_laws_and_seeds_where_runs_are_short(group):
    runs = study(f"{group}-10").sweep
    cells = {(run.family.width, run.data.seen) for run in runs}
    assert len(cells) >= 16
    seeds = {cell: sum((run.family.width, run.data.seen) == cell for run in runs) for cell in cells}
    price = {(run.family.width, run.data.seen): flops(run) for run in runs}
    dear = [cell for cell in cells if price[cell] > 0.9 * max(price.values())]
    assert min(seeds.values()) >= 2 and min(seeds[cell] for cell in dear) >= 3
    assert seeds[min(cells, key=price.__getitem__)] == max(seeds.values())


@pytest.mark.parametrize("group", GROUPS)
def test_the_pilot_of_rates_has_no_forecast_and_stays_within_the_fitted_compute(group):
    pilot = study(f"{group}-rates")
    assert pilot.target is None and pilot.targets(1.0) == []
    assert max(map(flops, pilot.sweep)) <= 1.001 * max(map(flops, study(f"{group}-10").sweep))
    corners = {(run.family.width, run.data.seen) for run in pilot.sweep}
    assert len(corners) >= 4
    assert all(len({run.optim.learning_rate for run in pilot.sweep
                    if (run.family.width, run.data.seen) == corner}) == 5 for corner in corners)


@pytest.mark.parametrize("group", GROUPS)
def test_the_pilot_of_scatter_has_two_seeds_of_every_cell_that_no_study_uses(group):
    pilot, first = study(f"{group}-scatter"), study(f"{group}-10").sweep
    assert pilot.target is None
    assert {(run.family.width, run.data.seen) for run in pilot.sweep} == {
        (run.family.width, run.data.seen) for run in first}
    seeds = {run.seed for run in pilot.sweep}
    assert len(seeds) == 2 and not seeds & {run.seed for run in first}


def test_a_name_that_is_no_study_is_refused_with_those_that_are():
    for wrong in ("transformer-pycode-20", "transformer", "", "gpt-pycode-10"):
        with pytest.raises(configs.ConfigError, match="transformer-pycode-10"):
            configs.read_config(f"{PATH}:{wrong}")

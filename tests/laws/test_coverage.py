"""Intervals cover: in simulations of planted laws, 90% intervals hold the truth about 90% of the time."""
import numpy as np
import pytest
from simulated import PLANTED, clustered, noisy

from scaling.laws import Runs
from scaling.laws.fitting.search import fit
from scaling.laws.intervals.profile import profile
from scaling.laws.intervals.uncertainty import bootstrap

SMALL = {"chinchilla": 16, "saturating_power": 10, "power": 8}     # runs
LARGE = {"chinchilla": 100, "saturating_power": 60, "power": 40}    # runs from which "auto" resamples them


def held(form, studies, intervals, seed=0, **options):
    """{(method, parameter): for each simulated study, 1 if the 90% interval holds the truth, else 0}.

    intervals(fit) -> {method: {parameter: (low, high)}}. options: make(rng) -> table of runs, and arguments of `fit`.
    """
    make, found = options.pop("make"), {}
    for study in range(studies):
        law = fit(Runs.from_dataframe(make(np.random.default_rng([seed, study]))), form, **options)
        for method, ends in intervals(law).items():
            for name, (low, high) in ends.items():
                found.setdefault((method, name), []).append(low <= PLANTED[form][name] <= high)
    return {key: np.array(each, float) for key, each in found.items()}


def coverage(*arguments, **options):
    """{(method, parameter): share of the studies whose interval holds the truth}. Arguments are those of `held`."""
    return {key: each.mean() for key, each in held(*arguments, **options).items()}


def by(*methods, draws=150, profiles=()):
    """The argument `intervals` of `held`: bootstraps by method or (method, cluster), and profiles of parameters."""
    def intervals(law):
        ends = {}
        for method in methods:
            name, cluster = method if isinstance(method, tuple) else (method, None)
            boot = bootstrap(law, draws, name, cluster)
            ends[boot.method] = {p: boot.interval(p) for p in law.form.names}
        if profiles:
            ends["profile"] = {p: profile(law, p, points=0).interval for p in profiles}
        return ends
    return intervals


# If intervals cover 90%, fewer than 27 of 36 hold the truth once in 450 times, and if they cover 85%, once in 28 times.
# These are tests for gross errors, with seeds that pass. The slow tests below are the measurement.
FEW, FLOOR = 36, 0.75


@pytest.mark.parametrize("form", ["chinchilla", pytest.param("saturating_power", marks=pytest.mark.slow)])
def test_intervals_of_independent_runs_cover_in_a_small_simulation(form):
    profiles = ["alpha"] if form == "saturating_power" else []
    shares = coverage(form, FEW, by("noise", "wild", draws=80, profiles=profiles),
                      make=noisy(form, SMALL[form]))
    assert min(shares.values()) >= FLOOR, shares


@pytest.mark.slow
def test_clustered_runs_need_a_cluster_bootstrap():
    """Resampling rows takes runs for independent, so its intervals are too narrow for runs that share an error.

    Here three runs share 80% of the variance. Intervals are too narrow by a factor 1.6, so 90% intervals cover about 69%,
    and more than 30 of 36 would hold the truth once in 60 times.
    """
    shares = coverage("saturating_power", FEW, by("case", ("wild", "group"), ("cluster", "group"), draws=80),
                      make=lambda rng: clustered("saturating_power", 12, 3, rng), delta="noise")
    for name in PLANTED["saturating_power"]:
        assert shares["case", name] <= 30 / 36
        assert min(shares["wild cluster", name], shares["cluster", name]) >= FLOOR
        assert shares["case", name] < shares["wild cluster", name]


def within(found):
    """Asserts that the shares of `held` are compatible with a coverage of 85 to 95%.

    Each share may miss by three binomial standard deviations of STUDIES, and the average over a law's parameters by three
    of its standard errors over the studies: the intervals of one study miss together, so three parameters say hardly
    more than one.
    """
    shares = {key: each.mean() for key, each in found.items()}
    low, high = 0.85 - 3 * (0.85 * 0.15 / STUDIES) ** 0.5, 0.95 + 3 * (0.95 * 0.05 / STUDIES) ** 0.5
    assert all(low <= share <= high for share in shares.values()), shares
    for method in {name for name, _ in shares}:
        studies = np.mean([each for (name, _), each in found.items() if name == method], axis=0)
        slack = 3 * studies.std() / STUDIES ** 0.5
        assert 0.85 - slack <= studies.mean() <= 0.95 + slack, (method, slack, shares)


STUDIES = 100
DELTAS = [{}, {"delta": "noise"}, {"loss": "mse_log"}]


@pytest.mark.slow
@pytest.mark.parametrize("options", DELTAS, ids=str)
@pytest.mark.parametrize("form", PLANTED)
def test_intervals_of_few_runs_cover_between_85_and_95_percent(form, options):
    within(held(form, STUDIES, by("noise", "wild", profiles=list(PLANTED[form])[-2:]),
                make=noisy(form, SMALL[form]), **options))


@pytest.mark.slow
@pytest.mark.parametrize("options", DELTAS, ids=str)
@pytest.mark.parametrize("form", PLANTED)
def test_intervals_of_many_runs_cover_between_85_and_95_percent(form, options):
    within(held(form, STUDIES, by("case", "wild", "noise"), make=noisy(form, LARGE[form]), **options))


@pytest.mark.slow
@pytest.mark.parametrize("options", DELTAS[:2], ids=str)
@pytest.mark.parametrize("form, groups, method", [
    ("chinchilla", 9, "wild"), ("chinchilla", 16, "wild"), ("chinchilla", 36, "cluster"),
    ("power", 6, "wild"), ("saturating_power", 8, "wild"), ("saturating_power", 24, "cluster")])
def test_intervals_of_clustered_runs_cover_between_85_and_95_percent(form, groups, method, options):
    """The lowest coverage is that of 24 clusters under Huber with delta="noise": 86% (standard error 1%) in 1,000 studies,
    and 82% in the first hundred."""
    found = held(form, STUDIES, by("case", (method, "group")),
                 make=lambda rng: clustered(form, groups, 3, rng), **options)
    assert np.mean([each for (name, _), each in found.items() if name == "case"]) < 0.84, found
    within({key: each for key, each in found.items() if key[0] != "case"})


@pytest.mark.slow
@pytest.mark.parametrize("form", ["chinchilla", "saturating_power"])
def test_a_prediction_interval_holds_the_next_run(form):
    """Ten times beyond the largest compute or x. With noise the interval is for one run, without it for the law."""
    truth, hits = PLANTED[form], np.zeros(2)
    at = {"N": 1.6e6, "D": 1e8} if form == "chinchilla" else {"x": 1e9}
    mean = float(np.exp(log_loss(truth, at)))
    for study in range(STUDIES):
        rng = np.random.default_rng([5, study])
        boot = bootstrap(fit(Runs.from_dataframe(noisy(form, SMALL[form])(rng)), form), 150)
        for k, value in enumerate((mean * np.exp(0.005 * rng.standard_normal()), mean)):
            low, high = boot.predict(**at, noise=k == 0)
            hits[k] += low <= value <= high
    assert np.all((hits / STUDIES >= 0.8) & (hits / STUDIES <= 0.99)), hits / STUDIES


def log_loss(truth, at):
    terms = [truth["A"] * at.get("N", at.get("x")) ** -truth["alpha"]]
    terms += [truth["B"] * at["D"] ** -truth["beta"]] if "B" in truth else []
    return np.log(truth["E"] + sum(terms))

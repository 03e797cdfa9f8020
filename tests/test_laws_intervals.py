"""Intervals hold what they say: in simulations of planted laws, 90% intervals cover about 90% of the time."""
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.laws import Runs, resample, uncertainty
from scaling.laws.fitting import fit, refit
from scaling.laws.forms import LawError
from scaling.laws.jackknife import jackknife, sandwich, sandwich_errors
from scaling.laws.profile import profile
from scaling.laws.uncertainty import bootstrap

FOLDER = Path(os.environ.get("SCALING_REFERENCE", Path(__file__).parents[1] / "../shared/reference"))
PLANTED = {"chinchilla": {"E": 1.0, "A": 25.0, "B": 150.0, "alpha": 0.3, "beta": 0.35},
           "saturating_power": {"E": 1.0, "A": 30.0, "alpha": 0.25}, "power": {"A": 12.0, "alpha": 0.12}}
SMALL, LARGE = {"chinchilla": 16, "saturating_power": 10, "power": 8}, {"chinchilla": 49, "saturating_power": 30, "power": 20}


def planted(form, n, repeats=1):
    """(table of inputs, their true losses): a factor 50 in N and 32 in D on a grid, or five orders in x."""
    truth = PLANTED[form]
    if form == "chinchilla":
        side = round(n ** 0.5)
        N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e4, 5e5, side), np.geomspace(1e6, 3.2e7, side)))
        table = pd.DataFrame({"N": N, "D": D})
        mean = truth["E"] + truth["A"] * N ** -truth["alpha"] + truth["B"] * D ** -truth["beta"]
    else:
        x = np.geomspace(1e3, 1e8, n)
        table, mean = pd.DataFrame({"x": x}), truth.get("E", 0.0) + truth["A"] * x ** -truth["alpha"]
    return pd.concat([table] * repeats, ignore_index=True), np.tile(mean, repeats)


def clustered(form, groups, members, rng, noise=0.005):
    """As `planted`, `members` runs at each of `groups` configurations, which share 80% of the variance of their errors."""
    table, mean = planted(form, groups, members)
    label = np.tile(np.arange(len(mean) // members), members)
    error = np.sqrt(0.8) * rng.standard_normal(label.max() + 1)[label] + np.sqrt(0.2) * rng.standard_normal(len(mean))
    return table.assign(loss=mean * np.exp(noise * error), group=label)


def coverage(form, studies, intervals, seed=0, **options):
    """{(method, parameter): share of simulated studies whose 90% interval holds the truth}. intervals(table's fit) ->
    {method: {parameter: (low, high)}}; options: make(rng) -> table, and arguments of `fit`."""
    make, hits = options.pop("make"), {}
    for study in range(studies):
        law = fit(Runs.from_dataframe(make(np.random.default_rng([seed, study]))), form, **options)
        for method, held in intervals(law).items():
            for name, (low, high) in held.items():
                hits[method, name] = hits.get((method, name), 0) + (low <= PLANTED[form][name] <= high)
    return {key: count / studies for key, count in hits.items()}


def noisy(form, n, noise=0.005, tail=None):
    def make(rng):
        table, mean = planted(form, n)
        error = rng.standard_normal(len(mean)) if tail is None else rng.standard_t(tail, len(mean))
        return table.assign(loss=mean * np.exp(noise * error))
    return make


def by(*methods, draws=150, profiles=()):
    """intervals for `coverage`: of bootstraps, given as (method, cluster) or a method, and of profiles."""
    def intervals(law):
        held = {}
        for method in methods:
            name, cluster = method if isinstance(method, tuple) else (method, None)
            boot = bootstrap(law, draws, name, cluster)
            held[boot.method] = {p: boot.interval(p) for p in law.form.names}
        if profiles:
            held["profile"] = {p: profile(law, p, points=0).interval for p in profiles}
        return held
    return intervals


def together(shares, method):
    return float(np.mean([share for (name, _), share in shares.items() if name == method]))


# Of 36 intervals that hold the truth 90% of the time, fewer than 27 do once in 600 times, and once in 40 where it is
# 85%: a test for gross errors, with seeds that pass. The slow tests below are the measurement.
FEW, FLOOR = 36, 0.75


@pytest.mark.parametrize("form", ["chinchilla", "saturating_power"])
def test_intervals_of_independent_runs_cover_in_a_small_simulation(form):
    profiles = ["alpha"] if form == "saturating_power" else []
    shares = coverage(form, FEW, by("noise", "wild", draws=80, profiles=profiles), make=noisy(form, SMALL[form]))
    assert min(shares.values()) >= FLOOR, shares


def test_clustered_runs_need_a_cluster_bootstrap():
    """Runs that share an error: resampling rows takes them for independent, and its intervals are too narrow.

    With errors of which 80% are shared by three runs, they are too narrow by a factor 1.6, which makes 90% about 69%:
    more than 30 hits of 36 would then happen once in 60 times.
    """
    shares = coverage("saturating_power", FEW, by("case", ("wild", "group"), ("cluster", "group"), draws=80),
                      make=lambda rng: clustered("saturating_power", 12, 3, rng), delta="noise")
    for name in PLANTED["saturating_power"]:
        assert shares["case", name] <= 30 / 36
        assert min(shares["wild cluster", name], shares["cluster", name]) >= FLOOR
        assert shares["case", name] < shares["wild cluster", name]


def within(shares):
    """Each share is compatible with a coverage of 85 to 95% (three binomial standard deviations of STUDIES), and
    the average over a law's parameters, which says more, is within 85 to 95% itself, give or take one percent."""
    low, high = 0.85 - 3 * (0.85 * 0.15 / STUDIES) ** 0.5, 0.95 + 3 * (0.95 * 0.05 / STUDIES) ** 0.5
    assert all(low <= share <= high for share in shares.values()), shares
    for method in {name for name, _ in shares}:
        assert 0.84 <= together(shares, method) <= 0.96, (method, shares)


STUDIES = 100
DELTAS = [{}, {"delta": "noise"}, {"loss": "mse_log"}]


@pytest.mark.slow
@pytest.mark.parametrize("options", DELTAS, ids=str)
@pytest.mark.parametrize("form", PLANTED)
def test_intervals_of_few_runs_cover_between_85_and_95_percent(form, options):
    within(coverage(form, STUDIES, by("noise", "wild", profiles=list(PLANTED[form])[-2:]),
                    make=noisy(form, SMALL[form]), **options))


@pytest.mark.slow
@pytest.mark.parametrize("options", DELTAS, ids=str)
@pytest.mark.parametrize("form", PLANTED)
def test_intervals_of_many_runs_cover_between_85_and_95_percent(form, options):
    within(coverage(form, STUDIES, by("case", "wild", "noise"), make=noisy(form, LARGE[form]), **options))


@pytest.mark.slow
@pytest.mark.parametrize("options", DELTAS[:2], ids=str)
@pytest.mark.parametrize("form, groups, method", [
    ("chinchilla", 9, "wild"), ("chinchilla", 16, "wild"), ("chinchilla", 36, "cluster"), ("power", 6, "wild"),
    ("saturating_power", 8, "wild"), ("saturating_power", 24, "cluster")])
def test_intervals_of_clustered_runs_cover_between_85_and_95_percent(form, groups, method, options):
    shares = coverage(form, STUDIES, by("case", (method, "group")),
                      make=lambda rng: clustered(form, groups, 3, rng), **options)
    naive = together(shares, "case")
    assert naive < 0.82, shares
    within({key: share for key, share in shares.items() if key[0] != "case"})


@pytest.mark.slow
@pytest.mark.parametrize("form", ["chinchilla", "saturating_power"])
def test_a_prediction_interval_holds_the_next_run(form):
    """At ten times the largest compute (N and D, or x), with the noise of that run; and without noise, the law."""
    truth, hits = PLANTED[form], np.zeros(2)
    at = {"N": 1.6e6, "D": 1e8} if form == "chinchilla" else {"x": 1e9}
    mean = float(np.exp(noisy_law(truth, at)))
    for study in range(STUDIES):
        rng = np.random.default_rng([5, study])
        boot = bootstrap(fit(Runs.from_dataframe(noisy(form, SMALL[form])(rng)), form), 150)
        for k, value in enumerate((mean * np.exp(0.005 * rng.standard_normal()), mean)):
            low, high = boot.predict(**at, noise=k == 0)
            hits[k] += low <= value <= high
    assert np.all((0.8 <= hits / STUDIES) & (hits / STUDIES <= 0.99)), hits / STUDIES


def noisy_law(truth, at):
    terms = [truth["A"] * at.get("N", at.get("x")) ** -truth["alpha"]]
    terms += [truth["B"] * at["D"] ** -truth["beta"]] if "B" in truth else []
    return np.log(truth["E"] + sum(terms))


# ------------------------------------------------------------------------------------------- what must be true

@pytest.fixture(scope="module")
def law():
    return fit(Runs.from_dataframe(noisy("chinchilla", 25)(np.random.default_rng(3)).assign(
        group=np.tile(np.arange(5), 5))))


@pytest.mark.parametrize("loss", ["huber_log", "mse", "huber_log1p", "mse_log"])
@pytest.mark.parametrize("form, options", [("chinchilla", {"fix": {"E": 1.0}}), ("chinchilla", {"tie": {"beta": "alpha"}}),
                                           ("shifted_power", {}), ("power", {})])
def test_every_method_serves_every_objective_and_restricted_forms(form, options, loss):
    kind = form if form in PLANTED else "saturating_power"
    table = noisy(kind, 16)(np.random.default_rng(0)).assign(group=np.arange(16) % 8)
    law = fit(Runs.from_dataframe(table), form, loss=loss, **options)
    for method, cluster in (("case", None), ("noise", None), ("wild", None), ("cluster", "group"), ("wild", "group")):
        boot = bootstrap(law, 20, method, cluster)
        errors = boot.standard_errors()
        for name in law.form.names:
            fixed = name in law.form.fixed
            assert (errors[name] < 1e-9) == fixed, (method, name)
            assert fixed or np.all(np.isfinite(boot.interval(name)))
        if "tie" in options:
            np.testing.assert_allclose(boot.draws["beta"], boot.draws["alpha"])
        assert np.isfinite(boot.predict(**dict(zip(law.form.inputs, np.exp(law.logs[:, :3])))) ).all()
        json.dumps(boot.to_json(), allow_nan=False)


def test_errors_for_the_wild_bootstrap_are_what_leaving_a_cluster_out_makes_of_residuals():
    """Of squares, whose residuals are linear in a law that is: exactly the residuals without the cluster."""
    table, mean = planted("saturating_power", 12)
    table = table.assign(loss=mean + 0.01 * np.random.default_rng(1).standard_normal(12), group=np.arange(12) // 3)
    law = fit(Runs.from_dataframe(table), "saturating_power", loss="mse", fix={"alpha": 0.25})
    numbers, _ = resample.groups(law, "group")
    without = []
    for g in range(4):
        other = fit(law.runs.select(numbers != g, "left out"), "saturating_power", loss="mse", fix={"alpha": 0.25})
        without += [*(law.y - law.form.predict(other.vector[None], law.logs)[0])[numbers == g]]
    near = np.abs(law.residuals) < resample.ROBUST * law.noise
    assert near.sum() > 6
    found = resample.errors(law, numbers) / np.sqrt(3 / 4)
    if near.all():
        np.testing.assert_allclose(found, without, rtol=1e-6)
    else:
        assert np.corrcoef(found, without)[0, 1] > 0.9


def test_a_fit_through_its_points_leaves_no_error_without_size(law):
    """A small delta pins the law to about P of its points; the errors that are redrawn there are of normal size."""
    pinned = np.abs(law.residuals) < law.spec.delta
    assert pinned.sum() >= 5
    errors = resample.errors(law, np.arange(25))
    rms = [np.sqrt(np.mean(values[pinned] ** 2)) for values in (law.residuals, errors)]
    assert rms[0] < 0.2 * 0.005 and 0.4 < rms[1] / 0.005 < 2
    assert 0.7 < np.sqrt(np.mean(errors ** 2)) / 0.005 < 1.6


def test_signs_have_mean_zero_and_variance_one():
    for count, values in ((8, 6), (30, 2)):
        signs = resample.signs(20_000, count, np.random.default_rng(0))
        assert len(np.unique(signs)) == values
        assert np.abs(signs.mean(0)).max() < 0.04 and np.abs(signs.var(0) - 1).max() < 0.04  # 5 standard errors


def test_auto_takes_the_method_that_fits_the_data(law):
    assert bootstrap(law, 2).method == "noise"
    assert bootstrap(law, 2, cluster="group").method == "wild cluster"
    assert bootstrap(law, 2, cluster=np.arange(25)).method == "cluster"
    assert bootstrap(fit(law.runs, quantile=0.3), 2).method == "case"
    assert bootstrap(fit(Runs.from_dataframe(noisy("power", 40)(np.random.default_rng(0))), "power"), 2).method == "case"


def test_few_clusters_are_spoken_of(law):
    wild, whole = bootstrap(law, 10, cluster="group"), bootstrap(law, 10, "cluster", "group")
    for boot, words in ((wild, "4 degrees of freedom"), (whole, "method='wild' is better")):
        said = [s for s in boot.diagnostics if s.code == "few-clusters"]
        assert len(said) == 1 and "5 clusters of group" in said[0] and words in said[0] and said[0].about == ("group",)
    uneven = bootstrap(law, 10, cluster=np.r_[np.zeros(20, int), 1:6])
    assert any("worth 1.5 equal ones" in said for said in uneven.diagnostics)
    assert not [s for s in bootstrap(law, 10, cluster=np.arange(25)).diagnostics if s.code == "few-clusters"]


def test_weights_are_taken_as_one_over_the_variance_by_the_noise_method():
    table, mean = planted("power", 40)
    weights = np.where(np.arange(40) < 20, 1.0, 9.0)
    table = table.assign(loss=mean * np.exp(0.01 * np.random.default_rng(0).standard_normal(40) / np.sqrt(weights)))
    law = fit(Runs.from_dataframe(table), "power", weights=weights, loss="mse_log")
    y, same = uncertainty.resamples(law, "noise", np.arange(40), np.full(4000, 0.005), np.random.default_rng(0))
    spread = np.log(y / law.predicted).std(0)
    np.testing.assert_allclose(spread[:20] / spread[20:], 3.0, rtol=0.1)
    assert same is law.weights


def test_refits_are_the_optima_of_their_resamples(law):
    weights = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=20).astype(float)
    found = refit(law, law.y, weights)
    assert found.converged.all()
    gap = found.objective / [fit(law.runs, weights=weight).objective for weight in weights] - 1
    assert np.abs(gap).max() < 1e-2 and np.mean(np.abs(gap) < 1e-9) >= 0.9


def test_a_prediction_interval_is_wider_than_the_laws_own(law):
    boot = bootstrap(law, 300)
    at = {"N": np.array([2e4, 2e5]), "D": 1e7}
    inner, outer, wider = boot.predict(**at, noise=False), boot.predict(**at), boot.predict(**at, level=0.99)
    assert (outer[0] < inner[0]).all() and (inner[1] < outer[1]).all()
    assert (wider[0] < outer[0]).all() and (wider[1] > outer[1]).all()
    assert (boot.predict(**at)[0] == outer[0]).all()


def test_derived_quantities_have_intervals(law):
    boot = bootstrap(law, 200)
    low, high = boot.interval(lambda p: p.beta / (p.alpha + p.beta))
    assert low < law.params["beta"] / (law.params["alpha"] + law.params["beta"]) < high
    both = boot.interval(lambda p: np.stack([p.alpha, p.beta], axis=1))
    np.testing.assert_allclose(np.transpose(both), [boot.interval("alpha"), boot.interval("beta")])
    kaplan = fit(law.runs, "kaplan", loss="mse_log")
    draws = bootstrap(kaplan, 50)
    low, high = draws.interval("N_c")
    assert 0 < low < kaplan.derived["N_c"] < high and "N_c" in draws.to_json()["intervals"]


def test_the_same_seed_gives_the_same_draws_and_another_others(law):
    for method in ("noise", "wild", "case"):
        one, two, other = (bootstrap(law, 20, method, seed=s).draws for s in (0, 0, 1))
        pd.testing.assert_frame_equal(one, two)
        assert not np.allclose(one, other)


def test_an_interval_at_a_bound_says_so():
    table, mean = planted("chinchilla", 16)
    noise = np.random.default_rng(0).standard_normal(16)
    boot = bootstrap(fit(Runs.from_dataframe(table.assign(loss=(mean - 0.8) * np.exp(0.05 * noise)))), 200)
    assert boot.interval("E")[0] == 0
    assert any(said.code == "refits-at-bound" and said.about == ("E",) for said in boot.diagnostics)


@pytest.mark.parametrize("options, words", [
    ({"cluster": "family"}, "no column 'family'"), ({"method": "jackknife"}, "method must be"),
    ({"method": "cluster"}, "needs cluster="), ({"method": "wild cluster"}, "needs cluster="), ({"draws": 1}, "draws must be"),
    ({"method": "case", "cluster": "group"}, "independent"), ({"cluster": [1, 2, 3]}, "3 labels for 25 runs"),
    ({"cluster": np.zeros(25)}, "single cluster"), ({"cluster": np.r_[np.nan, np.arange(24)]}, "1 runs have no label")])
def test_bad_requests_give_one_sentence(law, options, words):
    with pytest.raises(LawError, match=words):
        bootstrap(law, **options)


def test_one_sided_fits_are_not_resampled_as_if_symmetric(law):
    with pytest.raises(LawError, match="symmetric"):
        bootstrap(fit(law.runs, quantile=0.2), 10, "noise")


def test_no_degrees_of_freedom_no_interval(law):
    five = fit(law.runs.select(np.isin(np.arange(25), [0, 4, 12, 20, 24]), "few"))
    with pytest.raises(LawError, match="degrees of freedom"):
        bootstrap(five)
    boot = bootstrap(law, 10)
    with pytest.raises(LawError, match="no parameter 'gamma'"):
        boot.interval("gamma")
    with pytest.raises(LawError, match="level must lie"):
        boot.interval("alpha", 90)
    with pytest.raises(LawError, match="one value a draw"):
        boot.interval(lambda p: 1.0)


# ---------------------------------------------------------------------------- jackknife, sandwich, published values

def test_the_sandwich_of_squares_is_that_of_textbooks():
    """(X'X)^-1 X' diag(r^2) X (X'X)^-1 of a law that is linear in its free parameters (White 1980)."""
    table, mean = planted("saturating_power", 30)
    table = table.assign(loss=mean + 0.01 * np.random.default_rng(1).standard_normal(30), group=np.arange(30) // 3)
    law = fit(Runs.from_dataframe(table), "saturating_power", loss="mse", fix={"alpha": 0.25})
    X = np.stack([np.ones(30), table["x"] ** -0.25], axis=1)
    bread = np.linalg.inv(X.T @ X)
    rows = X * law.residuals[:, None]
    groups = rows.reshape(10, 3, 2).sum(1)
    np.testing.assert_allclose(sandwich(law), bread @ rows.T @ rows @ bread, rtol=1e-6)
    np.testing.assert_allclose(sandwich(law, "group"), bread @ groups.T @ groups @ bread, rtol=1e-6)


def test_the_jackknife_leaves_each_run_or_cluster_out(law):
    runs, groups = jackknife(law), jackknife(law, "group")
    assert len(runs.values) == 25 and len(groups.values) == 5
    alone = fit(law.runs.select(np.arange(25) != 7, "left out"))
    assert runs.values.loc[7].to_numpy() == pytest.approx(alone.vector, rel=1e-3)
    assert list(groups.influence().index) == [0, 1, 2, 3, 4]
    assert set(groups.standard_errors()) == set(law.form.names) and np.abs(runs.influence().to_numpy()).max() > 0.3
    json.dumps([runs.to_json(), groups.to_json()])
    with pytest.raises(LawError, match="points left for 5 parameters"):
        jackknife(law, np.r_[np.zeros(22), 1, 2, 3])


NAMES = ("A", "B", "E", "alpha", "beta")


@pytest.fixture(scope="module")
def epoch():
    folder = FOLDER / "epoch_chinchilla"
    if not (folder / "expected.json").exists():
        pytest.skip(f"no reference data at {folder}; set SCALING_REFERENCE to the folder that holds epoch_chinchilla")
    targets = {t["name"]: t for t in json.loads((folder / "expected.json").read_text())["targets"]}
    runs = Runs.from_csv(folder / "data.csv", y="loss", where="kept", params="model_params", data="train_tokens")
    runs.frame["size"] = np.round(np.log(runs.frame["model_params"]), 2)
    first = json.loads((folder / "bootstrap_first8.json").read_text())
    return fit(runs), targets, first


def test_the_published_bootstrap_with_its_own_resamples(epoch):
    """The notebook's index sets, np.random.seed(42) and 4000 times choice(240), each solved to convergence."""
    law, targets, first = epoch
    random = np.random.RandomState(42)
    index = np.stack([random.choice(240, 240, replace=True) for _ in range(4000)])
    assert (law.runs.rows[index[:8]] == np.array(first["index"])).all()
    counts = np.stack([np.bincount(row, minlength=240) for row in index]).astype(float)
    draws = pd.DataFrame(refit(law, law.y, counts).vectors, columns=list(law.form.names))
    exact, published = targets["bootstrap_recomputed"], targets["published_table"]
    for name, row in targets["notebook_bootstrap_rows"]["rows"].items():
        assert draws.loc[int(name), list(NAMES)].to_list() == pytest.approx(row, rel=5e-4)
    for i, row in enumerate(first["fit"]):
        assert draws.loc[i, list(NAMES)].to_list() == pytest.approx(row[:5], rel=1e-4)
    for name in NAMES:
        assert draws[name].std() == pytest.approx(exact["se"][name], rel=exact["tol_rel_se"])
        assert draws[name].std() == pytest.approx(published["bootstrap_se"][name], rel=0.03)
        low, high = np.quantile(draws[name], [0.025, 0.975])
        assert (low, high) == pytest.approx(exact["ci95"][name], abs=0.05 * exact["se"][name])
        assert (low, high) == pytest.approx(published["ci95"][name], abs=0.1 * published["bootstrap_se"][name])
    a = draws["beta"] / (draws["alpha"] + draws["beta"])
    assert a.mean() == pytest.approx(exact["a_mean"], abs=2e-4) and a.std() == pytest.approx(exact["a_se"], rel=0.02)


def test_other_published_uncertainties(epoch):
    law, targets, _ = epoch
    other = {key: dict(zip(NAMES, value)) for key, value in targets["other_uncertainties"].items() if isinstance(value, list)}
    assert jackknife(law).standard_errors() == pytest.approx(other["jackknife_se"], rel=1e-3)
    sizes = jackknife(law, "size").standard_errors()
    assert sizes == pytest.approx(other["delete_one_model_size_jackknife_se"], rel=1e-3)
    assert sandwich_errors(law) == pytest.approx(other["sandwich_se"], rel=3e-3)  # printed to two digits
    boot = bootstrap(law, 4000, cluster="size")
    assert boot.method == "cluster"
    assert boot.standard_errors() == pytest.approx(other["cluster_bootstrap_by_model_size_se"], rel=0.1)

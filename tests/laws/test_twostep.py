"""Two-step forecasts find planted laws and links, cover as often as they say, and beat one step where the metric
saturates."""
import numpy as np
import pandas as pd
import pytest

from scaling import laws
from scaling.laws.fitting.fit import refit
from scaling.laws.forecasts import forecast, twostep_draws

TRUTH = {"E": 1.7, "A": 400.0, "B": 410.0, "alpha": 0.34, "beta": 0.28}
LINK = {"epsilon": 0.95, "k": 1.9, "gamma": 0.6}
TARGET = {"N": 1.5e9, "D": 6e10}  # nine times the compute of the largest run


def law(N, D):
    return TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]


def link(L):
    return LINK["epsilon"] - LINK["k"] * np.exp(-LINK["gamma"] * L)


def measured(N, D, rng, noise, correlation=0.0, group=None):
    """(loss, error) of runs with correlated normal noise in both. Runs of a group share their noise."""
    N = np.asarray(N, float)
    group = np.arange(N.size).reshape(N.shape) if group is None else group
    first, second = rng.standard_normal((2, int(np.max(group)) + 1))
    second = correlation * first + np.sqrt(1 - correlation ** 2) * second
    loss = law(N, D) * np.exp(noise * first[group])
    return loss, link(loss) + noise * second[group]


def table(seed=0, noise=0.004, levels=4, correlation=0.0, clusters=None):
    rng = np.random.default_rng(seed)
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 5e8, levels), np.geomspace(1e9, 2e10, levels)))
    group = None if clusters is None else np.arange(N.size) % clusters
    loss, error = measured(N, D, rng, noise, correlation, group)
    frame = pd.DataFrame({"N": N, "D": D, "loss": loss, "error": error})
    return frame if clusters is None else frame.assign(group=group)


def test_planted_laws_without_noise_come_back_exactly():
    two = laws.two_step(table(noise=0.0), metric="error")
    assert two.law.params == pytest.approx(TRUTH, rel=1e-5)
    assert two.link.params == pytest.approx(LINK, rel=1e-5)
    at = np.array([1e9, 1e10]), np.array([[1e10], [1e11]])
    np.testing.assert_allclose(two.predict(*at), link(law(*at)), rtol=1e-6)
    assert two.predict(**TARGET) == pytest.approx(link(law(**TARGET)), rel=1e-6)


def test_a_sigmoid_and_a_law_of_ones_own_link_too():
    frame = table(noise=0.0)
    frame["error"] = 0.1 + 0.7 / (1 + np.exp(-3 * (frame.loss - 2.7)))
    two = laws.two_step(frame, "overtraining", "sigmoid", metric="error", law_options={"loss": "mse_log"})
    planted = {"floor": 0.1, "span": 0.7, "slope": 3.0, "middle": 2.7}
    assert two.link.params == pytest.approx(planted, rel=1e-4)
    loss = two.law.predict(C=6e19, M=20.0)
    assert two.predict(C=6e19, M=20.0) == pytest.approx(two.link.predict(loss))
    straight = laws.Form("straight", "a + b L", "a test", ("L",), (laws.Amplitude("a", low=-np.inf),
                         laws.Amplitude("b")), (laws.Parameter("power", 0.5, 1.5),),
                         lambda p, log: (0.0, p.power * log.L), centred=())
    two = laws.two_step(frame.assign(error=0.2 * frame.loss - 0.3), link=straight, metric="error")
    assert two.predict(**TARGET) == pytest.approx(0.2 * two.law.predict(**TARGET) - 0.3, rel=1e-4)


def test_a_run_takes_part_in_the_steps_that_it_has_numbers_for():
    frame = table()
    frame.loc[:3, "error"] = np.nan     # only the law
    frame.loc[14:, "N"] = np.nan        # only the link
    two = laws.two_step(frame, metric="error")
    assert list(two.law.runs.rows) == list(range(14)) and list(two.link.runs.rows) == list(range(4, 16))
    assert list(two.shared) == [*range(4, 14), -1, -1]
    assert {gone["why"] for gone in two.link.manifest["dropped"]} == {"no loss, or no error"}
    assert len(two.direct().y) == 10


@pytest.fixture
def refits(monkeypatch):
    """The list of (fit, y, weights) that were refitted, in order."""
    seen = []
    monkeypatch.setattr(twostep_draws, "refit", lambda *given: seen.append(given) or refit(*given))
    return seen


@pytest.mark.parametrize("method, cluster", [("case", None), ("cluster", "group")])
def test_a_run_weighs_the_same_in_both_steps(refits, method, cluster):
    frame = table(clusters=5)
    frame.loc[:3, "error"] = np.nan
    two = laws.two_step(frame, metric="error")
    two.bootstrap(20, method, cluster)
    first, second = (weights for _, _, weights in refits)
    assert (first[:, two.shared] == second).all() and len(np.unique(first, axis=0)) > 10
    if cluster:
        assert (first[:, :5] == first[:, 5:10]).all()


@pytest.mark.parametrize("method, cluster", [("noise", None), ("wild", None), ("wild", "group")])
def test_errors_of_a_run_stay_correlated_between_the_steps(refits, method, cluster):
    frame = table(correlation=0.8, clusters=8, levels=5)
    frame.loc[:3, "error"] = np.nan
    two = laws.two_step(frame, metric="error", law_options={"loss": "mse_log"})
    boot = two.bootstrap(400, method, cluster)
    first, second = (step.spec.residuals(y, step.predicted) for step, y, _ in refits)
    moved = first[:, two.shared] * second
    assert boot.correlation > 0.5
    if method == "wild":  # both steps share a sign, so the sign of the product is the same in every draw
        assert ((moved > 0).all(0) | (moved < 0).all(0)).all()
    else:
        both = np.corrcoef(first[:, two.shared].ravel(), second.ravel())[0, 1]
        assert both == pytest.approx(boot.correlation, abs=0.05)


def test_the_defaults_of_resampling():
    few, many = (laws.two_step(table(levels=levels), metric="error") for levels in (4, 10))
    assert (few.bootstrap(5).method, many.bootstrap(5).method) == ("noise", "case")
    clustered = laws.two_step(table(clusters=8), metric="error").bootstrap(5, cluster="group")
    assert clustered.method == "wild cluster" and clustered.diagnostics[0].code == "few-clusters"
    many = laws.two_step(table(levels=5, clusters=25), metric="error")
    assert many.bootstrap(5, cluster="group").method == "cluster"


def test_the_same_seed_gives_the_same_draws_and_noise_widens():
    two = laws.two_step(table(), metric="error")
    one, again, other = (two.bootstrap(100, seed=s) for s in (0, 0, 1))
    assert (one.link == again.link).all() and (one.law == again.law).all() and (one.law != other.law).any()
    inner, outer = one.predict(**TARGET, noise=False), one.predict(**TARGET)
    assert outer[0] < inner[0] < two.predict(**TARGET) < inner[1] < outer[1]
    at = {"N": np.array([1e9, 2e9]), "D": 1e11}
    assert one.samples(**at, noise=True).shape == (100, 2)
    assert (one.samples(**at)[:, 0] > one.samples(**at)[:, 1]).all()


def test_two_steps_beat_one_where_the_metric_saturates():
    frame = table(3, levels=6)
    large = (6 * frame.N * frame.D >= 1.5e19).to_numpy()
    two, held = laws.two_step(frame[~large], metric="error"), frame[large]
    errors = [np.abs(fit.predict(held.N.to_numpy(), held.D.to_numpy()) - held.error).mean() for fit in (two, two.direct())]
    assert errors[0] < 0.5 * errors[1]


def test_a_two_step_forecast_on_record(tmp_path):
    frame = table()
    frame.loc[15, "error"] = np.nan  # its loss counts as a record all the same
    two = laws.two_step(frame, metric="error")
    content = forecast.write(tmp_path / "f.json", two, two.bootstrap(100), TARGET)
    assert content["metric"] == "error" and content["loss"]["metric"] == "loss"
    assert content["predicted"] == two.predict(**TARGET) and content["form"] == "chinchilla, then downstream"
    low, high = content["loss"]["interval"]
    assert low < two.law.predict(**TARGET) < high and content["direct"]["predicted"] > content["predicted"]
    assert len(content["records"]) == 16 and set(content["manifest"]) == {"law", "link"}
    for target, words in [({"N": frame.N[2], "D": frame.D[2]}, "already among the records"),
                          ({"N": frame.N[15], "D": frame.D[15]}, "already among the records")]:
        with pytest.raises(laws.LawError, match=words):
            forecast.write(tmp_path / "g.json", two, two.bootstrap(20), target)
    changed = frame.assign(loss=frame.loss * np.where(frame.index == 15, 1.1, 1))
    with pytest.raises(laws.LawError, match="changed: row 15"):
        forecast.check(tmp_path / "f.json", 0.5, changed)
    joined = pd.concat([frame, pd.DataFrame([TARGET | {"loss": 2.3, "error": content["predicted"]}])])
    assert forecast.check(tmp_path / "f.json", records=joined)["inside"]


def test_a_link_that_extrapolates_is_a_warning():
    two = laws.two_step(table(noise=0.001), metric="error")
    said = laws.predict_run(two, two.bootstrap(20), {"N": 1e15, "D": 1e17})["diagnostics"]
    assert {"N", "D", "C"} <= {name for warning in said if warning["code"] == "extrapolates"
                               for name in warning["about"]}


@pytest.mark.parametrize("options, words", [
    ({"metric": "accuracy"}, "no column 'accuracy' for the metric; the columns are N, D, loss, error"),
    ({"metric": "error", "link": "power"}, "which column is x|is no link"),
    ({"metric": "empty"}, "no run has the loss and empty"),
    ({"metric": "error", "law": "chinchila"}, "did you mean 'chinchilla'")])
def test_bad_requests_give_one_sentence(options, words):
    with pytest.raises(laws.LawError, match=words):
        laws.two_step(table().assign(empty=np.nan), **options)


@pytest.mark.parametrize("options, words", [
    ({"draws": 1}, "draws must be"), ({"method": "jackknife"}, "method must be one of"),
    ({"method": "cluster"}, "do not go together"),
    ({"method": "case", "cluster": "error"}, "do not go together"),
    ({"cluster": "family"}, "no column 'family'"), ({"cluster": "same"}, "single cluster")])
def test_bad_resampling_gives_one_sentence(options, words):
    two = laws.two_step(table().assign(same=1), metric="error")
    with pytest.raises(laws.LawError, match=words):
        two.bootstrap(**{"draws": 10, **options})


def test_no_interval_without_degrees_of_freedom_or_of_one_side():
    frame = table()
    frame.loc[3:, "error"] = np.nan
    with pytest.raises(laws.LawError, match="3 points and 3 parameters of downstream leave no degrees of"):
        laws.two_step(frame, metric="error").bootstrap(10)
    with pytest.raises(laws.LawError, match="errors as symmetric"):
        laws.two_step(table(), metric="error", law_options={"quantile": 0.1}).bootstrap(10)


# -------------------------------------------------------------------------------------------------- transfer

def test_effective_data_transferred_is_found_through_two_fitted_laws():
    """Hernandez et al. 2021: D_T is the data from scratch that gives the loss of a fine-tuned run, minus the data
    that the run was fine-tuned on. The law of runs from scratch gives the former, and a second law describes D_T."""
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e6, 1e10, 6)))
    scratch = laws.fit(pd.DataFrame({"N": N, "D": D, "loss": law(N, D)}))
    truth = {"k": 1.9e4, "alpha": 0.18, "beta": 0.38}
    N, D_F = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e5, 1e8, 4)))
    tuned_loss = law(N, D_F + truth["k"] * D_F ** truth["alpha"] * N ** truth["beta"])

    p = scratch.params
    from_scratch = ((tuned_loss - p["E"] - p["A"] * N ** -p["alpha"]) / p["B"]) ** (-1 / p["beta"])
    transferred = pd.DataFrame({"N": N, "D_F": D_F, "D_T": from_scratch - D_F})
    transfer = laws.fit(laws.Runs.from_dataframe(transferred, y="D_T"), "transfer")
    assert transfer.params == pytest.approx(truth, rel=1e-4)


# ----------------------------------------------------------------------------------------------- calibration

def coverage(studies, draws, method="auto", levels=4, correlation=0.0, clusters=None, options=None):
    """Shares of simulated studies whose 90% interval holds the new run, and whose confidence interval holds
    the truth."""
    hits = np.zeros(2)
    for study in range(studies):
        two = laws.two_step(table(study, 0.004, levels, correlation, clusters), metric="error",
                                law_options=options)
        boot = two.bootstrap(draws, method, clusters and "group", seed=study)
        _, observed = measured(*TARGET.values(), np.random.default_rng([study, 1]), 0.004, correlation)
        for i, (value, noise) in enumerate([(observed, True), (link(law(**TARGET)), False)]):
            low, high = boot.predict(**TARGET, noise=noise)
            hits[i] += low <= value <= high
    return hits / studies


@pytest.mark.slow
def test_intervals_of_two_steps_cover_in_a_small_simulation():
    # Fewer than 29 hits in 40 studies happen once in 260 times if the true coverage is 0.87 (once in 2600 at 0.9).
    # So this test finds gross errors only. The slow test below measures coverage.
    assert (coverage(40, 80, options={"loss": "mse_log"}) >= 29 / 40).all()


LEAST_SQUARES = {"options": {"loss": "mse_log"}}


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    {"options": {"delta": "noise"}}, {"method": "wild", **LEAST_SQUARES}, {"levels": 10, **LEAST_SQUARES},
    {"levels": 8, "clusters": 16, **LEAST_SQUARES}, {"levels": 8, "clusters": 32, **LEAST_SQUARES},
    {"correlation": -0.7, **LEAST_SQUARES}, {"correlation": 0.7, **LEAST_SQUARES}])
def test_intervals_of_two_steps_cover_85_to_95_percent(options):
    """Intervals of one run's metric always do. Those of the laws do too, except with strongly correlated errors of
    16 runs, since the sizes of errors are drawn independently in both steps: 600 studies measured 84%."""
    run, law_alone = coverage(200, 100, **options)
    assert 0.85 <= run <= 0.95
    assert (0.8 if options.get("correlation", 0) > 0 else 0.85) <= law_alone <= 0.95

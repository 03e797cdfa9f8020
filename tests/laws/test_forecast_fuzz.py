"""Any table of runs has a forecast that can be written, scored and verified, or is refused in one sentence."""
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling import laws
from scaling.laws.forecasts import forecast

LAWS = {"saturating_power": {"x": "flops"}, "power": {"x": "N"}, "chinchilla": {}, "kaplan": {}, "rising_power": {"x": "D"},
        "overtraining": {}, "data_constrained": {"unique": "U"}}


@st.composite
def tables(draw):
    """Runs with sizes and data on a coarse grid, which may repeat, and a metric of any size and sign."""
    count = draw(st.integers(4, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 32 - 1)))
    table = pd.DataFrame({"N": 10.0 ** rng.integers(3, 7, count), "D": 10.0 ** rng.integers(4, 8, count)})
    table["U"] = np.minimum(table["D"], 10.0 ** rng.integers(4, 8, count))
    if draw(st.booleans()):
        table["flops"] = 6.0 * table["N"] * table["D"] * rng.uniform(0.8, 1.2, count)
    shift, size = draw(st.sampled_from([0, 1, -1, -3])), draw(st.sampled_from([-2, 1, 1e6, 1e-9]))
    noise = draw(st.floats(0, 1))
    table["loss"] = size * (shift + table["N"] ** -0.2 + table["D"] ** -0.1) * np.exp(noise * rng.standard_normal(count))
    if draw(st.booleans()):
        table.loc[0, "loss"] = draw(st.sampled_from([math.nan, math.inf, 0.0]))
    return table


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(table=tables(), law=st.sampled_from(sorted(LAWS)), objective=st.sampled_from(["huber_log", "mse", "mse_log"]),
       far=st.sampled_from([1e-3, 1.0, 10.0, 1e6]), seen=st.sampled_from([0.5, 0.999, 1.0, 1.3, -1.0, 0.0, math.nan, 1e9]))
def test_a_forecast_of_any_table_is_right_or_refused(tmp_path_factory, table, law, objective, far, seen):
    path = tmp_path_factory.mktemp("fuzz") / "f.json"
    target = {"N": 1e6 * far, "D": 1e7 * far, "U": 1e7, "flops": 6e13 * far ** 2}
    try:  # tests of fits say what is right where there is none
        fit = laws.fit(laws.Runs.from_dataframe(table, **LAWS[law]), law, loss=objective)
        boot = laws.bootstrap(fit, 20)
    except laws.LawError:
        return
    try:
        content = forecast.write(path, fit, boot, target, table)
    except laws.LawError as error:
        assert "\n" not in str(error) and len(str(error)) > 20
        assert not path.exists()
        return
    best = table["loss"].max() if content["rises"] else table["loss"].min()
    assert content["naive"]["best fitted run"] == content["best_fitted"] == best
    assert all(math.isfinite(value) for value in content["naive"].values())
    assert forecast.verify(path, table).ok
    try:
        result = forecast.check(path, content["predicted"] * seen, table)
    except laws.LawError as error:
        assert "must be" in str(error) and "\n" not in str(error)
        return
    if seen == 1.0 and content["ray"] and content["ray"]["of"] == "compute":
        assert result["errors"]["compute"] in (None, pytest.approx(1.0, rel=0.05))
    assert forecast.verify(path, table).ok

"""Every claim runs to its verdict with the smallest budget, as a user calls it, and agrees with what is on record.

    pytest -m slow -n 0 tests/claims/test_budgets.py    # about three hours on two cores
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments import claims
from scaling.claims import REFUTED, REPRODUCED, UNDECIDED, registry

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", claims.names())
def test_a_claim_runs_to_its_verdict_at_its_smallest_size_and_agrees_with_the_record(name, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")}
    ran = subprocess.run([sys.executable, "-m", "experiments.claims", f"--run={name}", "--budget=5m",
                          f"--workdir={tmp_path}"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    verdict = json.loads((tmp_path / name / registry.VERDICT).read_text())
    assert verdict["verdict"] in (REPRODUCED, REFUTED, UNDECIDED)
    assert set(verdict["parts"]) == set(claims.find(name).parts("5m"))
    for part in verdict["parts"].values():
        assert set(part["estimates"]) <= set(verdict["rules"]) and part["estimates"]
    record = ROOT / "docs" / "claims" / f"{name}.json"
    recorded = json.loads(record.read_text()) if record.exists() else {}
    if recorded.get("budget") == "5m":
        assert all(agrees for _, _, agrees in registry.compare_verdicts(recorded, verdict).values())

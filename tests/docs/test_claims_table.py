"""The table of claims in the README, and the pages of claims, are those that the verdicts in docs/claims give."""

import math
import pathlib

from experiments import claims
from scaling.claims import Criterion, pages

ROOT = pathlib.Path(__file__).parents[2]
VERDICTS = pages.read_verdicts(ROOT / "docs" / "claims")
AGAIN = "run python -m experiments.claims --report --record=docs/claims --readme=README.md"


def test_the_readme_has_the_table_of_the_verdicts():
    readme = (ROOT / "README.md").read_text()
    assert VERDICTS and pages.with_table(readme, VERDICTS) == readme, AGAIN


def test_every_page_is_that_of_its_verdict():
    assert {path.stem for path in (ROOT / "docs" / "claims").glob("*.md")} == {found["id"] for found in VERDICTS}, AGAIN
    for found in VERDICTS:
        assert (ROOT / "docs" / "claims" / f"{found['id']}.md").read_text() == pages.page(found), AGAIN
        assert all((ROOT / "docs" / "claims" / figure).exists() for figure in pages.figures_of(found).values()), AGAIN


def test_every_verdict_is_of_a_claim_and_of_its_rules_as_they_are_now():
    for found in VERDICTS:
        claim = claims.find(found["id"])
        assert claim.statement == found["statement"] and claim.source == found["source"]
        for name, held in found["rules"].items():
            low = -math.inf if held["low"] is None else held["low"]
            high = math.inf if held["high"] is None else held["high"]
            assert claim.rules[name] == Criterion(held["quantity"], low, high, held["why"])

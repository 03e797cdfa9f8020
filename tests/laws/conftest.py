"""Tests of this folder also fit the worked examples of docs/laws-forms.md."""
import pytest

from scaling.laws import FORMS
from tools._example_laws import register_examples


@pytest.fixture(autouse=True, scope="module")
def example_laws():
    before = dict(FORMS)
    register_examples()
    yield
    FORMS.clear()
    FORMS.update(before)

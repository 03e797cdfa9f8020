"""Faces import a name when it is first used, and commands load what they use."""

import importlib
import subprocess
import sys

import pytest
from test_structure import FACES

HEAVY = {"jax", "flax", "optax", "orbax", "pandas", "pyarrow", "scipy", "matplotlib", "PIL", "jinja2", "tensorflow",
         "tensorflow_datasets", "grain", "tokenizers", "ray", "wandb", "starlette", "uvicorn", "torch", "transformers",
         "jax2onnx", "onnxruntime"}
TRAINING = {"jax", "flax", "optax"}
NEEDED = {"scaling": set(), "scaling.laws": set(), "scaling.report": set(), "scaling.results.records": set(),
          "experiments.report": set(), "experiments.fit": {"pandas", "pyarrow"}, "experiments.run": set(),
          "scaling.study.study": TRAINING, "experiments.generate": set(), "experiments.evaluate": set(),
          "experiments.export": set(), "experiments.serve": set()}


@pytest.mark.parametrize("module", NEEDED)
def test_importing_loads_no_more_libraries_than_needed(module):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY & set(loaded) == NEEDED[module]


@pytest.mark.parametrize("face", FACES)
def test_a_face_offers_what_it_lists(face):
    package = importlib.import_module(face)
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is getattr(package, name)
        assert vars(package)[name] is getattr(package, name)  # found once
    with pytest.raises(AttributeError, match=f"{face!r} has no attribute 'nothing'; it offers .*{package.__all__[0]}"):
        _ = package.nothing
    assert not hasattr(package, "__wrapped__")

"""One file for each claim, with a `CLAIM`. A file whose name begins with an underscore is a part of claims."""

import importlib
import pkgutil

from scaling.claims import Claim
from scaling.fields import ConfigError, nearest


def names() -> list[str]:
    """The ids of all claims, in the order of the alphabet."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def find(name: str) -> Claim:
    """The claim with this id. Raises ConfigError, with the nearest ones, where there is none."""
    if name not in names():
        raise ConfigError(f"--run={name} is no claim; {nearest(name, names())}")
    found = importlib.import_module(f"{__name__}.{name}").CLAIM
    if found.id != name:
        raise ConfigError(f"experiments/claims/{name}.py has a claim called {found.id}; its id must be the file's name")
    return found

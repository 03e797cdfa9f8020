"""Model families: kinds of models whose size is one number.

A family is one file in this package. The file `wavenet.py` holds a frozen dataclass `WaveNet` (in any capitals), whose
fields are static sizes and whose methods are those of `Family`. The package then finds it by name, the one train loop
trains it, and the tests that all families share cover it. Files whose names start with an underscore are parts of them.
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.families._discovery import all, find, name, reads
    from scaling.families._family import Family, Metrics, Params, Player, is_solved

__getattr__, __dir__ = lazy(__name__)
__all__ = ["Family", "Metrics", "Params", "Player", "all", "find", "is_solved", "name", "reads"]

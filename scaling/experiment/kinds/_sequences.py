"""What kinds of examples of text share: pairs of texts, and texts with a label. D is counted in examples."""

import importlib
from typing import Any, ClassVar

from scaling.experiment.kinds._kind import DataKind, count_tokens
from scaling.fields import DataError, shown

OWN = "own:"  # begins the name of a source that is the user's own function


class Sequences(DataKind):
    """Examples that are texts and lie in memory: `examples` of them are seen, of `unique_examples` different ones."""

    unit: ClassVar[str] = "examples"
    at_once: ClassVar[tuple[int, int]] = (32, 128)

    @property
    def per_step(self) -> int:
        return self.batch

    @property
    def vocab(self) -> int:
        """The number of tokens."""
        return count_tokens(self.tokenizer)

    def vocabulary(self, source):
        return f"tokenizer {source.tokenizer.fingerprint}"

    def check(self):
        self.family_fields()
        super().check()

    def load(self) -> Any:
        """The source: a built-in one by its name, or that of the user's own function."""
        if self.name.startswith(OWN):
            return load_own(self)
        return self._load()


def load_own(data) -> Any:
    """The source that the function of `data.name="own:<module>.<function>"` returns for these fields of a kind of data."""
    module, _, function = data.name.removeprefix(OWN).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(f"data.name={shown(data.name)} cannot be imported ({error}); write own:<module>.<function> of a "
                        "module that Python finds, such as one in the directory that a command starts from") from error
    return found(data)

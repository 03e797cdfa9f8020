"""The text that an imported model was trained on: it has a name and a tokenizer, and is not here."""

import hashlib

from scaling.data.tokenizers import Tokenizer
from scaling.fields import DataError

PREFIX = "imported:"


class ImportedText:
    """What stands for the text of a model that was trained elsewhere, as a `scaling.data.Source` without examples.

    It gives the run its tokenizer, and a fingerprint from which the names of the runs follow that begin with it.
    """

    splits = ()
    unique_tokens = 0

    def __init__(self, name: str, tokenizer: Tokenizer, length: int, batch: int):
        self.name, self.tokenizer, self.length, self.batch_size = name, tokenizer, length, batch
        self.fingerprint = hashlib.sha256(f"{name} {tokenizer.fingerprint}".encode()).hexdigest()[:16]
        self.vocab, self.contents = tokenizer.vocab, {}

    def batches(self, seed, start, stop, rows=None):
        raise self._absent()

    def arrays(self):
        raise self._absent()

    def slice(self, arrays, seed, step):
        raise self._absent()

    def evaluation(self, split, count=0):
        raise self._absent()

    def summary(self) -> list[str]:
        return [f"{self.name} is the text that an imported model was trained on, and is not here."]

    def _absent(self) -> DataError:
        return DataError(f"data.name={self.name} is the text that an imported model was trained on, and is not here; write "
                         "other data, such as data.name=pycode/stdlib")

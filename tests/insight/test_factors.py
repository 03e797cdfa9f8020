"""Factors are what Python's grammar and the source of images say, byte by byte and image by image."""

import keyword
import re

import numpy as np

from scaling.insight import factors

SOURCE = '''"""Ein Täxt."""
import os  # ünd


class Reader:
    size = 0x10

    def read(self, name):
        if name:
            return f"{name} is {self.size}" + """
two
"""
        return None


def last(): pass
'''


def classes():
    syntax, depth = factors.python_labels(SOURCE)
    return np.array(factors.SYNTAX)[syntax], depth


def of(pattern):
    """The classes of the bytes of all places of a pattern."""
    data = SOURCE.encode()
    return [set(classes()[0][m.start():m.end()]) for m in re.finditer(pattern.encode(), data)]


def test_every_byte_has_a_label_also_of_characters_of_several_bytes():
    syntax, depth = factors.python_labels(SOURCE)
    assert len(syntax) == len(depth) == len(SOURCE.encode()) > len(SOURCE)
    assert of("Täxt") == [{"string"}] and of("# ünd") == [{"comment"}]


def test_words_are_keywords_names_numbers_or_operators():
    assert of("class") == of("return")[:1] == of("None") == [{"keyword"}] and keyword.iskeyword("None")
    assert of("Reader") == of("os") == [{"name"}] and of("0x10") == [{"number"}] and {"operator"} in of(":")
    assert of("two") == [{"string"}] and of(" = ")[0] == {"space", "operator"}


def test_depth_is_that_of_the_block():
    depth = classes()[1]
    for line, expected in (("import os", 0), ("size = 0", 1), ("if name", 2), ("return f", 3), ("two", 3),
                           ("return None", 2), ("def last", 0), ("def read", 1)):
        at = SOURCE.encode().index(line.encode())
        assert depth[at] == expected, line


def test_what_is_no_python_has_no_labels():
    for text in ("It was the best of times, it's been said (", 'x = """', "if x:\n  a\n b\n"):
        assert factors.python_labels(text) is None


def test_continuous_factors_are_cut_into_quarters():
    labels, names = factors._classed(None, "size", np.linspace(0.5, 1.5, 400))
    assert names == factors.QUARTERS and list(np.bincount(labels)) == [100] * 4 and (np.diff(labels) >= 0).all()
    assert factors._classed(None, "size", np.ones(5)) is None

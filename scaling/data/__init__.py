"""Data: `load_text`, `load_images`, `load_pairs` and `load_labelled` take a name and return a source of batches.

    source = load_text("pycode/stdlib", length=256, batch=16)
    source.batch(seed=0, step=3)["tokens"]         # int32 [16, 257], a pure function of its arguments

Names of text: `pycode/stdlib` and `pycode/environment` (Python source on this machine; no network needed), `music/abc`
  (folk tunes that the package music21 carries), `music/audio` and `speech/<language>` (sound: those tunes as tones, and
  numbers that espeak-ng speaks),
  `tfds:<name>[/<config>]` (any TFDS text data set), `text:<file, folder or glob>` (one's own files: plain text in any
  encoding, JSON lines, Parquet, compressed or not), teachers, whose entropy is known: `zipf`, `hmm`, `grammar`, `repeats`,
  with fields such as `zipf:1.5,contexts=4096`, and `pixels[/<levels>]:<images>` (images as tokens, pixel by pixel).

    source = load_images("glyphs/letters", size=16, batch=64)
    source.batch(seed=0, step=3)["image"]          # uint8 [64, 16, 16, 1]

Names of images: `glyphs` and `glyphs/<set>` (an endless stream of rendered characters, from the fonts inside
  matplotlib), `fashion_mnist` and `digits` (from packages), `tfds:<name>[/<config>]` (any TFDS image data set),
  `images:<file, folder or glob>` (one's own files), `teacher` (images of a few levels, whose entropy is known).

    source = load_pairs("docstrings", source_length=256, length=64, batch=16)
    source.batch(seed=0, step=3)["target"]         # int32 [16, 65]

Names of pairs of texts: `postfix` (expressions and their postfix form, exact and without end), `docstrings` (functions and
  what they do), `lohelp/en-de` (help pages in any two languages, from packages of Debian), `tfds:<name>[/<config>]`,
  `pairs:<file, folder or glob>`. Names of texts with labels: `packages` (which package a function is from),
  `tfds:<name>[/<config>]`, `labelled:<file, folder or glob>`. `own:<module>.<function>` is the user's own source of either
  kind, such as a `TableSource`.

`source.contents` says what was found and what was left out, and `source.summary()` says it in sentences.
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.data.images import ImageSource, load_images
    from scaling.data.labelled import load_labelled
    from scaling.data.pairs import load_pairs
    from scaling.data.source import Source, TextSource
    from scaling.data.table import TableSource
    from scaling.data.text import load_text

__getattr__, __dir__ = lazy(__name__)
__all__ = ["ImageSource", "Source", "TableSource", "TextSource", "load_images", "load_labelled", "load_pairs",
           "load_text"]

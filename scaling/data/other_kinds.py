"""Names of data of one kind that are given where another kind is read."""

BEGINNINGS = {  # of the names of each kind, up to their first "/" or ":"; "tfds" and "own" begin names of several kinds
    "text": ("pycode", "music", "speech", "text", "zipf", "hmm", "grammar", "repeats", "pixels"),
    "images": ("glyphs", "fashion_mnist", "digits", "images", "teacher"),
    "pairs of texts": ("postfix", "docstrings", "lohelp", "pairs"),
    "texts with labels": ("packages", "labelled")}


def of_other_kind(name: str, kind: str) -> str:
    """"glyphs/letters names images, and text is read here": what is wrong with a name where data of `kind` are read, a key
    of `BEGINNINGS`; "" for a name of no other kind."""
    first = name.partition(":")[0].partition("/")[0]
    return next((f"{name} names {other}, and {kind} {'is' if kind == 'text' else 'are'} read here"
                 for other, known in BEGINNINGS.items() if other != kind and first in known), "")

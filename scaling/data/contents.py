"""What was found in data and what was left out, as JSON values for files and as sentences for people.

`source.contents` has "documents" (or images, which "things" says) and their "bytes", in training and evaluation
together; "units" (tokens or examples) that are used for training, and "unit"; "training" and, by split, "evaluation", with
the same counts; "left_out", {reason: count}, with some names for each reason in "examples"; "encodings", {encoding:
documents}; and "notes", a list of sentences.
"""
from collections.abc import Iterable, Mapping

from scaling.data.reading import GUESSED

KEPT = ("read", "pieces", "train", "file", "package")      # counts that are no reason to leave something out
UNNAMED = ("duplicate", "near_duplicate", "empty", "generated", "table", "long_lines")     # reasons that need no names


def of_counts(counts: Mapping, splits: Iterable[str], encodings: Mapping, examples: Mapping, notes: Iterable[str],
              before: Mapping[str, int]) -> dict:
    """The contents of a corpus of files, from the counts of `curate.curate` and what was left out `before`."""
    kept = {split: _sizes(counts[split]) for split in ("train", *splits)}
    left_out = {rule: entry["files"] for rule, entry in counts.items() if rule not in KEPT}
    notes = list(notes)
    if "pieces" in counts:
        whole = counts["read"]["files"] - sum(n for rule, n in left_out.items() if rule != "near_duplicate")
        notes.append(f"documents that are long were divided, {whole:,} into {counts['pieces']['files']:,}, so that "
                     "evaluation is on a sample of all of them")
    guessed = [name for name in encodings if name.endswith(GUESSED)]
    if guessed:
        notes.append(f"the encoding of {sum(encodings[name] for name in guessed):,} documents is a guess "
                     f"({', '.join(name.removesuffix(GUESSED) for name in guessed)}); if it is wrong, write "
                     "--config.data.encoding=...")
    return totals(kept.pop("train"), kept, {**before, **left_out}, notes, encodings=dict(encodings),
                  examples=dict(examples))


def totals(training: dict, evaluation: dict, left_out: Mapping[str, int], notes: list[str], **more) -> dict:
    """The contents of data of which `training` and `evaluation[split]` say the "documents" and "bytes"."""
    parts = [training, *evaluation.values()]
    sums = {key: sum(part[key] for part in parts) for key in training}
    return {**sums, "training": training, "evaluation": evaluation, "left_out": dict(left_out), "notes": notes, **more}


def _sizes(entry: Mapping) -> dict:
    return {"documents": entry["files"], "bytes": entry["bytes"]}


def left_out_sentence(counts: Mapping, examples: Mapping) -> str:
    """Such as "left out: 2 duplicate, 1 binary (a.exe)", or "" if nothing was. `counts` are numbers or have "files"."""
    parts = []
    for rule, entry in counts.items():
        number = entry["files"] if isinstance(entry, Mapping) else entry
        if rule in KEPT or not number:
            continue
        names = [] if rule in UNNAMED else list(examples.get(rule, ()))
        more = ", ..." if number > len(names) else ""
        parts.append(f"{number:,} {rule.replace('_', ' ')}" + (f" ({', '.join(names)}{more})" if names else ""))
    return f"left out: {', '.join(parts)}" if parts else ""


def sentences(name: str, found: Mapping) -> list[str]:
    """The contents of the data called `name`, for the terminal."""
    things = found.get("things", "documents")

    def said(part: Mapping) -> str:
        word = things.removesuffix("s") if part["documents"] == 1 else things
        return f"{part['documents']:,} {word}" + (f" ({part['bytes']:,} bytes)" if part["bytes"] else "")

    evaluated = [f"{said(part)} of {split!r}" for split, part in found["evaluation"].items()]
    out = [f"{name}: {said(found)}; {found['units']:,} different {found['unit']} to train on, from "
           f"{said(found['training'])}; evaluation on {', '.join(evaluated)}"]
    encodings = {encoding: count for encoding, count in found.get("encodings", {}).items() if encoding != "utf-8"}
    if encodings:
        out.append("encodings beside UTF-8: " + ", ".join(f"{encoding} in {n:,}" for encoding, n in encodings.items()))
    left = left_out_sentence(found["left_out"], found.get("examples", {}))
    return out + ([left] if left else []) + list(found["notes"])

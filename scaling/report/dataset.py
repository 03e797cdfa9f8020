"""The data of a study in words: what was found and left out, and how often it repeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from scaling.figures.words import count, listing, plural, short
from scaling.report.caveats import repeats_by_data
from scaling.report.reading import StudyFiles


def data_sets(study: StudyFiles) -> list[dict]:
    """One entry for each data set: its name, its fingerprint, and sentences about what was found in it and left out."""
    listed = (study.study or {}).get("data") or []
    if not listed:
        runs = study.runs
        names = runs["data.name"] if "data.name" in runs else pd.Series("", runs.index)
        prints = runs["data_fingerprint"] if "data_fingerprint" in runs else pd.Series("", runs.index)
        pairs = pd.DataFrame({"name": names, "fingerprint": prints}).dropna(how="all").fillna("").drop_duplicates()
        listed = [{**pair, "contents": {}} for pair in pairs.to_dict("records") if any(pair.values())]
    return [{"name": one.get("name") or "unnamed data", "fingerprint": str(one.get("fingerprint") or "")[:12],
             "facts": list(_found(one.get("contents") or {}, study.unit.name))} for one in listed]


def _found(contents: Mapping, unit: str) -> Iterator[str]:
    things = contents.get("things") or "documents"
    parts = [f"{_amount(contents[name])} {noun}" for name, noun in (("documents", things), ("images", "images"))
             if _is_count(contents.get(name))]
    parts += [f"{_bytes(contents['bytes'])}"] if _is_count(contents.get("bytes")) and contents["bytes"] else []
    parts += [f"{_amount(contents['units'])} {unit} to train on"] if _is_count(contents.get("units")) else []
    if parts:
        yield f"Found: {listing(parts)}."
    left = contents.get("left_out")
    left = {why: n for why, n in left.items() if _is_count(n) and n} if isinstance(left, Mapping) else {}
    if left:
        reasons = [f"{_amount(n)} ({why.replace('_', ' ')})" for why, n in left.items()]
        yield f"Files and documents left out, with the reason: {listing(reasons)}."
    elif isinstance(contents.get("left_out"), Mapping):
        yield "Nothing was left out."
    notes = contents.get("notes")
    yield from (str(note) for note in (notes if isinstance(notes, list) else []))


def _is_count(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value < 1e5 else count(value)


def _bytes(value: float) -> str:
    scale, name = next((s, n) for s, n in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes")) if value >= s or s == 1)
    return f"{short(value / scale)} {name}"


def repetition(study: StudyFiles) -> str:
    """How often data repeat at each amount of data."""
    found = repeats_by_data(study)
    if not found:
        return ""
    most = max(times for _, times in found)
    if most <= 1.02:
        return (f"No run saw any of the {study.unit.name} twice: all {plural(len(found), 'amount')} of data are new data.")
    said = [f"{short(times, 2)} at {count(data)}" for data, times in found]
    return f"The most times that a run went through its unique {study.unit.name} is {listing(said)} {study.unit.name} seen."

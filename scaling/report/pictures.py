"""Images that models made: the grids listed in pictures.json, and the metrics of single models in examine.json."""

from __future__ import annotations

import base64
import struct

from scaling.figures import words
from scaling.results import metrics

SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "wav": b"RIFF", "svg": b"<svg"}  # of the kinds of files that enter a page
LARGEST = 4_000_000  # bytes of one file in the page
WIDTH = 300          # about how many screen pixels wide a grid is shown: a whole multiple, or part, of its own width
# The sentence above each kind of grid. Grids of several sizes stand side by side; it says what they have in common.
INTRODUCTIONS = {
    "samples": "All models drew these samples from the same latents.",
    "reconstructions": "The upper rows are test images, the same for all models. The lower rows are their reconstructions.",
    "interpolations": "Each row goes from one latent to another. The latents are the same for all models.",
    "traversals": "Each row changes one of the latents that a model uses most. All models start from the same test image.",
}


def read_listed(workdir, listed: list[dict], kind: str = "png") -> tuple[list[dict], str]:
    """Reads the files of a kind, a key of SIGNATURES, that pictures.json or sounds.json lists.

    Returns the entries that can be shown, each with its bytes under the name of the kind, and a sentence about the others,
    or "". Where an entry has a `score`, its bytes are under "svg".
    """
    shown, lost = [], []
    for entry in listed:
        read = _content(workdir, str(entry.get("path", "")), kind)
        score = _content(workdir, str(entry["score"]), "svg") if "score" in entry else None
        if read:
            shown.append({**entry, kind: read} | ({"svg": score} if score else {}))
        else:
            lost.append(str(entry.get("path")))
    why = f"these are not {kind.upper()} files of at most {LARGEST // 10**6} MB in the workdir: {', '.join(lost)}."
    return shown, why if lost else ""


def _content(workdir, path: str, kind: str) -> bytes | None:
    """The file of a kind at a path inside of the workdir; None where there is none, or a larger one than pages have."""
    parts = path.split("/")
    if ".." in parts or not parts[0] or not workdir.joinpath(*parts).exists():  # files outside never enter the page
        return None
    content = workdir.joinpath(*parts).read_bytes()
    return content if content.startswith(SIGNATURES[kind]) and len(content) <= LARGEST else None


def grids(study) -> list[dict]:
    """One entry for each kind of picture: its title, its introduction, and its grids by ascending model size."""
    found = sorted(study.pictures or [], key=lambda entry: entry["params_non_embedding"])
    out = []
    for name in dict.fromkeys(entry["name"] for entry in found):
        sides = [_side(entry) for entry in found if entry["name"] == name]
        out.append({"name": name, "title": words.sentence(name.replace("_", " ")), "sides": sides,
                    "introduction": INTRODUCTIONS.get(name, "The latents and images are the same for all models.")})
    known = list(INTRODUCTIONS)
    return sorted(out, key=lambda grid: known.index(grid["name"]) if grid["name"] in known else len(known))


def _side(entry: dict) -> dict:
    width, height = struct.unpack(">II", entry["png"][16:24])
    scale = round(WIDTH / width) if width <= WIDTH else 1 / round(width / WIDTH)
    return {"uri": "data:image/png;base64," + base64.b64encode(entry["png"]).decode(),
            "width": round(width * scale), "height": round(height * scale),
            "size": words.count(entry["params_non_embedding"]), "fingerprint": entry.get("fingerprint") or "",
            "facts": [metrics.find_metric(name).amount(words.number(value))
                      for name, value in (entry.get("examine") or {}).items()]}


def examination(study) -> dict | None:
    """The metrics of examine.json as a table: one row for each metric, one column for each model by ascending size."""
    found = sorted(study.examine or [], key=lambda entry: entry["params_non_embedding"])
    if not found:
        return None
    names = dict.fromkeys(name for entry in found for name in entry["metrics"] if not name.endswith("_se"))
    return {"columns": [f"{words.count(entry['params_non_embedding'])}, {entry.get('label', '')}".rstrip(", ")
                        for entry in found],
            "rows": [(words.sentence(metrics.find_metric(name).label),
                      [_value(entry["metrics"], name) for entry in found]) for name in names]}


def _value(values: dict, name: str) -> str:
    error = values.get(f"{name}_se")
    return words.with_error(values.get(name), error) if error else words.short(values.get(name), 4)

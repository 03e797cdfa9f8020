"""Images that models made: the grids of pictures.json with their bytes, and how each kind is introduced."""

from __future__ import annotations

import base64
import struct

from scaling.figures import words
from scaling.results import metrics

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 4_000_000  # bytes of one picture in the page
WIDTH = 300          # screen pixels that a grid takes about: a whole multiple, or part, of its own
# What each kind of grid shows; sizes stand beside each other, so each says what is the same for all of them.
INTRODUCTIONS = {
    "samples": "Drawn by each model from the same latents.",
    "reconstructions": "Above, the same test images; below, what each model makes of their latents.",
    "interpolations": "Each row goes from one latent to another, the same two for every model.",
    "traversals": "Each row moves one of the latents that a model uses most, from the same test image.",
}


def read(workdir, listed: list[dict]) -> tuple[list[dict], str]:
    """(the entries of pictures.json whose PNG can be shown, with it as `png`; a sentence about the others or
    "")."""
    shown, lost = [], []
    for entry in listed:
        parts = str(entry.get("path", "")).split("/")
        path = workdir.joinpath(*parts)
        inside = ".." not in parts and parts[0]  # nothing outside the workdir comes into the page
        png = path.read_bytes() if inside and path.exists() else b""
        if png.startswith(SIGNATURE) and len(png) <= LARGEST:
            shown.append({**entry, "png": png})
        else:
            lost.append(str(entry.get("path")))
    why = f"Not a PNG of at most {LARGEST // 10**6} MB in the workdir: {', '.join(lost)}."
    return shown, why if lost else ""


def grids(study) -> list[dict]:
    """One entry for each name of picture: its introduction, and its grids by ascending size."""
    found = sorted(study.pictures or [], key=lambda entry: entry["params_non_embedding"])
    out = []
    for name in dict.fromkeys(entry["name"] for entry in found):
        sides = [_side(entry) for entry in found if entry["name"] == name]
        out.append({"name": name, "title": words.sentence(name.replace("_", " ")), "sides": sides,
                    "introduction": INTRODUCTIONS.get(name, "The same latents and images for each model.")})
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
    """The costly metrics of examine.json as a table: one row a metric, one column a model by ascending
    size."""
    found = sorted(study.examine or [], key=lambda entry: entry["params_non_embedding"])
    if not found:
        return None
    names = dict.fromkeys(name for entry in found for name in entry["metrics"] if not name.endswith("_se"))
    return {"columns": [f"{words.count(entry['params_non_embedding'])}, {entry.get('label', '')}".rstrip(", ")
                        for entry in found],
            "rows": [(words.sentence(metrics.find_metric(name).label),
                      [_value(entry["metrics"], name) for entry in found]) for name in names]}


def _value(metrics: dict, name: str) -> str:
    error = metrics.get(f"{name}_se")
    return words.measured(metrics.get(name), error) if error else words.short(metrics.get(name), 4)

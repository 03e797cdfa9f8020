"""Measures of weights: counts, norms, spectra, and distances from other weights.

Each array is split into its stacked layers. Each layer is then reshaped to a matrix from inputs to outputs by the names of
its axes: ("heads", "head_dim", "embed") is (heads head_dim) x embed, and the kernel of a convolution is (height width
channels_in) x channels_out. Biases and scales are vectors and have no spectrum.
"""

import itertools
import math

import numpy as np
import pandas as pd

from scaling import axes as named_axes
from tools import _checkpoints

INPUTS = {"heads": 2, "kernel_height": 3}  # {first axis: number of input axes}, where it is not 1
UNNAMED = ("head_dim", "kernel_height", "kernel_width")  # axes that the name of a kind leaves out
VECTORS = "vectors"
MEANS = ("sigma_max", "gain", "stable_rank", "effective_rank", "rank_used")  # averaged over the matrices of a kind


def rows(weights, start: dict | None = None) -> pd.DataFrame:
    """One row per array and stacked layer, in order of paths.

    Columns: player, module, path, layer (-1: not stacked), axes, kind, parameters, norm (Frobenius), rms, largest
    (magnitude), not_finite (how many). Matrices have the columns of `spectrum` too. With `start`, the initial arrays by
    path, there are also the columns of `distance` from them, and their own norms and spectrum as `start_*`.
    """
    out = []
    for path, array in weights.arrays.items():
        axes = weights.names[path]
        before = itertools.repeat((-1, None)) if start is None else pieces(path, start[path], axes)
        for (layer, piece), (_, earlier) in zip(pieces(path, array, axes), before):
            row = {"player": path.partition("/")[0], "module": module(path), "path": path, "layer": layer,
                   "axes": " ".join(axes), "kind": kind(path, axes), **norms(piece), **spectrum(piece)}
            if earlier is not None:
                there = {**norms(earlier), **spectrum(earlier)}
                there.pop("singular_values", None)
                row |= distance(earlier, piece) | {f"start_{name}": value for name, value in there.items()}
            out.append(row)
    return pd.DataFrame(out)


def module(path) -> str:
    """The module that owns an array: the path without the array's name."""
    return path.rpartition("/")[0] or path


def pieces(path, array, axes) -> list[tuple[int, np.ndarray]]:
    """[(layer, matrix or vector)] of an array in float64; the layer is -1 where none are stacked."""
    stacked = [i for i, name in enumerate(axes) if name in named_axes.STACKED]
    inner = [i for i in range(array.ndim) if i not in stacked]
    shape = [array.shape[i] for i in inner]
    layers = np.transpose(np.asarray(array, np.float64), stacked + inner).reshape(-1, *shape)
    if is_matrix(path, axes):
        cut = INPUTS.get(axes[inner[0]], 1)
        layers = layers.reshape(len(layers), math.prod(shape[:cut]), math.prod(shape[cut:]))
    else:
        layers = layers.reshape(len(layers), -1)
    return [(i if stacked else -1, layer) for i, layer in enumerate(layers)]


def is_matrix(path, axes) -> bool:
    """Whether an array maps inputs to outputs; a bias with two axes ("heads", "head_dim") does not."""
    return named_axes.is_matrix(axes) and path.rpartition("/")[2] != "bias"


def kind(path, axes) -> str:
    """What an array does, named alike at every size: "embed → mlp", or "vectors"."""
    if not is_matrix(path, axes):
        return VECTORS
    inner = [name for name in axes if name not in named_axes.STACKED]
    cut = INPUTS.get(inner[0], 1)
    return " → ".join(" ".join(name.removeprefix("kv_") for name in side if name not in UNNAMED)
                      for side in (inner[:cut], inner[cut:]))


def norms(piece) -> dict:
    norm = float(np.linalg.norm(piece))
    return {"parameters": piece.size, "norm": norm, "rms": norm / math.sqrt(piece.size),
            "largest": float(np.abs(piece).max()), "not_finite": int((~np.isfinite(piece)).sum())}


def spectrum(matrix) -> dict:
    """Measures of the singular values of a matrix from inputs to outputs; {} for a vector; NaN if an entry is not finite.

    sigma_max: the largest singular value.
    gain: sigma_max / sqrt(outputs / inputs), of order one at every width where features move as much as they should
      (Yang et al. 2310.17813).
    stable_rank: ||W||_F^2 / sigma_max^2 (Rudelson & Vershynin 2007).
    effective_rank: exp of the entropy of the singular values as shares of their sum (Roy & Vetterli 2007).
    rank_used: effective_rank / the smaller side.
    """
    if matrix.ndim != 2:
        return {}
    inputs, outputs = matrix.shape
    values = singular_values(matrix)
    shares = values[values > 0] / values.sum()
    top = float(values[0]) if values[0] > 0 else math.nan
    effective = float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else math.nan
    return {"inputs": inputs, "outputs": outputs,
            "sigma_max": float(values[0]), "sigma_min": float(values[-1]),
            "gain": float(values[0]) * math.sqrt(inputs / outputs),
            "stable_rank": float(((values / top)**2).sum()),
            "effective_rank": effective, "rank_used": effective / len(values),
            "singular_values": values.tolist()}


def singular_values(matrix) -> np.ndarray:
    """The singular values in descending order; all NaN where an entry of the matrix is not finite."""
    if not np.isfinite(matrix).all():
        return np.full(min(matrix.shape), np.nan)
    return np.linalg.svd(matrix, compute_uv=False)


def distance(before, after) -> dict:
    """moved: ||after - before||; update: moved / ||before||, infinite where `before` is zero; dot product; cosine."""
    moved, norm, end = (float(np.linalg.norm(x)) for x in (after - before, before, after))
    dot = float(np.vdot(before, after))
    return {"moved": moved, "update": ratio(moved, norm), "dot": dot, "cosine": _cosine(dot, norm * end)}


def ratio(moved: float, norm: float) -> float:
    return moved / norm if norm else math.inf if moved else 0.0


def _cosine(dot: float, product: float) -> float:
    return dot / product if product else math.nan


def compared(one, other) -> pd.DataFrame:
    """One row per array and stacked layer of two weights with the same tree: norms of both, and the `distance` from the
    first to the second."""
    _checkpoints.same_tree(one, other)
    out = []
    for path, array in one.arrays.items():
        axes = one.names[path]
        both = zip(pieces(path, array, axes), pieces(path, other.arrays[path], axes), strict=True)
        for (layer, a), (_, b) in both:
            out.append({"module": module(path), "path": path, "layer": layer, "kind": kind(path, axes),
                        "parameters": a.size, "start_norm": float(np.linalg.norm(a)),
                        "norm": float(np.linalg.norm(b)), **distance(a, b)})
    return pd.DataFrame(out)


def pooled(group) -> dict:
    """Norms and distances of all rows of a group, taken as one long vector."""
    count, norm = int(group["parameters"].sum()), math.hypot(*group["norm"])
    found = {"parameters": count, "norm": norm, "rms": norm / math.sqrt(count)}
    if "moved" in group:
        moved, start = math.hypot(*group["moved"]), math.hypot(*group["start_norm"])
        dot = float(group["dot"].sum())
        found |= {"moved": moved, "update": ratio(moved, start), "dot": dot,
                  "cosine": _cosine(dot, norm * start),
                  "start_norm": start, "start_rms": start / math.sqrt(count)}
    return found


def by_module(frame, depth: int) -> list[dict]:
    """`pooled` for every module down to `depth` names below its player, parents first."""
    out, total = [], frame["parameters"].sum()
    prefixes = dict.fromkeys("/".join(name.split("/")[:n]) for name in frame["module"].unique()
                             for n in range(1, min(depth, name.count("/")) + 2))
    inside = frame["module"] + "/"
    for prefix in prefixes:
        found = pooled(frame[inside.str.startswith(f"{prefix}/")])
        out.append({"module": prefix, **found, "share": found["parameters"] / total})
    return out


def by_axes(frame) -> list[dict]:
    """The number of parameters for each tuple of axis names."""
    counts = frame.groupby("axes", sort=False)["parameters"].sum().sort_values(ascending=False, kind="stable")
    return [{"axes": axes, "parameters": int(n), "share": n / counts.sum()} for axes, n in counts.items()]


def by_kind(frame) -> pd.DataFrame:
    """One row per player and kind: `pooled`, and the means over its matrices of the measures in `MEANS`."""
    measures = [prefix + name for prefix in ("", "start_") for name in MEANS if prefix + name in frame]
    out = []
    for (player, name), group in frame.groupby(["player", "kind"], sort=False):
        means = {} if name == VECTORS else {measure: group[measure].mean() for measure in measures}
        out.append({"player": player, "kind": name, **pooled(group), **means})
    return pd.DataFrame(out)

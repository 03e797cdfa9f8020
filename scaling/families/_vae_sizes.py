"""Sizes of `scaling.families.vae`: the stages of a schedule, and the members of the ladder."""

import functools
import math
import re
from typing import NamedTuple

from scaling.families._family import MOST_LAYERS, UNROLLED
from scaling.families._vae_likelihoods import LIKELIHOODS
from scaling.fields import ConfigError, shown


class Stage(NamedTuple):
    """The blocks on one grid."""

    grid: int  # cells per side
    blocks: int  # blocks of the decoder
    encoder: int  # blocks of the encoder
    stochastic: bool  # whether the decoder's blocks have latents


@functools.lru_cache(maxsize=1024)
def stages(f) -> tuple[Stage, ...]:
    """The stages of a VAE, coarse to fine, from its schedule or else by the rule of `VAE.stages`."""
    finest, found = f.image_size // f.cell, []
    if f.schedule:
        for part in f.schedule.split(","):
            match = re.fullmatch(r"\s*(\d+)([xd])(\d+)\s*", part)
            if not match or not 1 <= int(match[3][:9]) <= MOST_LAYERS or not 1 <= int(match[1][:9]) <= finest:
                raise ConfigError(
                    f"family.schedule={shown(f.schedule)} has {shown(part)}; write <cells of a side>x<blocks>, such as "
                    f"'1x1,4x2', with d for x where blocks have no latents, grids of at most {finest} cells (image_size / "
                    f"patch) and at most {MOST_LAYERS} blocks")
            found.append((int(match[1]), int(match[3]), match[2] == "x"))
    elif f.body == "linear":
        found = [(finest, f.layers, True)]
    else:
        grids = [g for g in (1, finest // 4, finest // 2) if g] if f.body == "conv" else [1]
        grids = sorted({g for g in grids if finest % g == 0} | {finest})
        share = max(1, f.layers // (len(grids) if f.body == "conv" else 3))
        counts = [share] * (len(grids) - 1)
        counts.append(max(1, f.layers - sum(counts)))
        found = [(g, n, not f.plain) for g, n in zip(grids, counts)]
        if f.plain:
            found = [(1, 1, True)] + ([(1, counts[0] - 1, False)] if counts[0] > 1 else []) + found[1:]
    grids = [g for g, _, _ in found]
    if grids[-1] != finest or any(b % a for a, b in zip(grids, grids[1:])) or not any(s for _, _, s in found):
        raise ConfigError(
            f"family.schedule={shown(f.schedule)} has the grids {shown(grids)}; each must be a multiple of the one before, "
            f"the last {finest} (image_size / patch), and at least one stage must have latents (x)")
    deep = f.body != "linear"
    return tuple(Stage(g, n, math.ceil(n / 2) if deep else 0, s) for g, n, s in found)


def weights(f):
    """The number of entries of all matrices and kernels, without tables."""
    width, hidden, latents = f.width, f.hidden, f.channels_latent
    pixels = LIKELIHOODS[f.likelihood].outputs(f) + f.channels
    total = f.cell**2 * width * pixels + (6 * width**2 if f.caption else 0)
    for stage in f.stages:
        kernels = 2 * hidden**2 * (9 if stage.grid > 2 else 1)
        block = {"conv": 2 * width * hidden + kernels, "tokens": 4 * width**2 + 2 * width * hidden, "linear": 0}[f.body]
        heads = {"conv": 3 * width * hidden + 2 * kernels + 4 * hidden * latents,
                 "tokens": 3 * width**2 + 4 * width * latents, "linear": 6 * width * latents}[f.body] + latents * width
        total += stage.encoder * block + stage.blocks * (block + stage.stochastic * heads)
    return total


@functools.lru_cache(maxsize=64)
def rungs(cls, overrides):
    """Members of the ladder of all sizes, with these fields fixed."""
    given, members = dict(overrides), []
    conv = given.get("body", cls.body) == "conv"
    widths = [unit * n for unit in (1, 2, 4, 8, 16, 32, 64, 128, 256) for n in range(8, 16)]
    for width in [given["width"]] if "width" in given else widths:
        least, at_32 = (4, 4) if conv else (2, 2)
        rule = max(least, at_32 * math.sqrt(width / 32))
        layers = given.get("layers", max(least, round(rule)))
        members.append(cls(**({"width": width, "layers": layers, "scan": layers > UNROLLED} | given)))
    return members

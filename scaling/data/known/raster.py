"""Images of a few levels drawn pixel by pixel, each given its neighbours above and to the left, with exact likelihood."""
import dataclasses
import functools
from types import ModuleType

import numpy as np

from scaling.data.known import draws
from scaling.data.known.entropy import FIRST, PER_SPLIT, SPLIT, contents_of, estimated
from scaling.data.source import UNLIMITED
from scaling.fields import DataError, check_fields, convert_fields, static

NEIGHBOURS = ((0, -1), (-1, 0), (-1, 1), (-1, -1))     # (rows, columns) from a pixel: left, above, above right, above left
MOST = 1 << 20                                         # probabilities in the table
CHUNK = 1 << 22                                        # values of images that are drawn at once


@dataclasses.dataclass(frozen=True)
class Raster:
    """The teacher of images of any size, channels and levels.

    In raster order, a value depends on the nearest `neighbours` values of its channel and on the channel before it in the
    same pixel. Values outside of the image count as level 0. The weight of level v is exp(sharpness z - coupling |v - m|),
    with standard normal z from the seed for each context, and m the mean of the context, both in levels.
    """

    neighbours: int = static(2, least=1, most=len(NEIGHBOURS))
    coupling: float = static(1.0, least=0, most=16)
    sharpness: float = static(1.0, least=0, most=8)
    seed: int = static(0, least=0, most=2**32 - 1)

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "data.name=teacher: ")

    def pictures(self, name: str, size: int, channels: int, levels: int) -> "RasterPictures":
        """The endless set of images of this size that the teacher draws."""
        if (count := levels ** (self.neighbours + 2)) > MOST:
            least = int(MOST ** (1 / (self.neighbours + 2)) + 1e-9)
            raise DataError(f"data.levels={levels} give the teacher {count:,} probabilities; write data.levels={least} or "
                            "fewer, or fewer neighbours in data.name")
        return RasterPictures(self, name, size, channels, levels)


class RasterPictures:
    """Images drawn by a `Raster`; see `pictures.Pictures` for what a set of images has.

    `nats(images)` are the exact -log p of images [k, size, size, channels] of levels, and `entropy` is their mean in bits
    per dimension.
    """

    count, splits = UNLIMITED, (SPLIT,)

    def __init__(self, teacher: Raster, name: str, size: int, channels: int, levels: int):
        self.teacher, self.name, self.size, self.channels, self.levels = teacher, name, size, channels, levels
        self.fingerprint = f"{teacher!r} {draws.tables_digest(self._tables)}"
        self.entropy = estimated(self._nats_of, size * size * channels)
        self.contents = contents_of("images", "dimension", self.entropy)

    @functools.cached_property
    def _tables(self) -> dict[str, np.ndarray]:
        """"value": thresholds of the next value in each context, uint32 [levels**(neighbours + 1), levels - 1]."""
        t, levels = self.teacher, self.levels
        parts = t.neighbours + 1
        context = np.indices((levels,) * parts).reshape(parts, -1)
        z = draws.normals((levels ** parts, levels), t.seed, levels)
        near = np.abs(np.arange(levels) - context.mean(0)[:, None])
        return {"value": draws.thresholds(np.exp(t.sharpness * z - t.coupling * near))}

    @functools.cached_property
    def _places(self) -> np.ndarray:
        """The places of the values that value i depends on, in raster order, [values, neighbours + 1]; one place more than
        there are values stands for those outside of the image."""
        size, channels = self.size, self.channels
        y, x, c = (each.ravel() for each in np.indices((size, size, channels)))
        found = []
        for dy, dx in NEIGHBOURS[:self.teacher.neighbours]:
            inside = (y + dy >= 0) & (x + dx >= 0) & (x + dx < size)
            found.append(np.where(inside, ((y + dy) * size + x + dx) * channels + c, len(y)))
        found.append(np.where(c > 0, np.arange(len(y)) - 1, len(y)))
        return np.stack(found, -1)

    def classes(self, label: str) -> list[str]:
        raise DataError(f"{self.name} has no labels; write data.label='' and data.classes=0")

    def captions(self, length: int) -> np.ndarray:
        raise DataError(f"{self.name} has no captions; write data.caption=0")

    def tables(self, label: str, caption: int) -> dict[str, np.ndarray]:
        if label:
            self.classes(label)
        return self._tables | ({"caption": self.captions(caption)} if caption else {})

    def arrays(self, count: int, label: str, caption: int) -> dict[str, np.ndarray]:
        return self.tables(label, caption)

    def available(self, split: str) -> int:
        return UNLIMITED if split == "train" else PER_SPLIT

    def factors(self, split: str, examples: int) -> dict[str, np.ndarray]:
        return {}

    def read(self, tables: dict, index, split: str, xp: ModuleType = np) -> dict:
        """Images `index` of a split, in values from 0 to 255 of which `transforms.quantise` makes their levels."""
        levels = self._draw(tables, xp.asarray(index).astype(xp.uint32) + xp.uint32(FIRST[split]), xp)
        return {"image": ((levels * 256 + self.levels - 1) // self.levels).astype(xp.uint8)}

    def _draw(self, tables: dict, index, xp: ModuleType = np):
        random, places = draws.streams(index, self.teacher.seed, xp), xp.asarray(self._places)
        powers = self.levels ** np.arange(places.shape[1] - 1, -1, -1)

        def advance(image, t):          # image [values + 1, k]
            context = sum(image[places[t, i]] * int(power) for i, power in enumerate(powers))
            value = draws.pick(draws.bits(random, t, xp), tables["value"][context], xp)
            return draws.put(image, t, slice(None), value, xp), value

        image = xp.zeros((len(places) + 1, len(index)), xp.int32)
        values = draws.repeat(advance, image, len(places), xp)[1]
        return values.T.reshape(len(index), self.size, self.size, self.channels)

    def nats(self, images: np.ndarray) -> np.ndarray:
        """-log p of images of levels [k, size, size, channels]: float64 [k]."""
        nats = -np.log(np.maximum(draws.probabilities(self._tables["value"]), np.finfo(float).tiny))
        powers, out = self.levels ** np.arange(self._places.shape[1] - 1, -1, -1), np.zeros(len(images))
        together = max(1, CHUNK // len(self._places))
        for at in range(0, len(images), together):
            values = images[at:at + together].reshape(-1, len(self._places)).astype(np.int64)
            padded = np.pad(values, ((0, 0), (0, 1)))
            out[at:at + together] = nats[padded[:, self._places] @ powers, values].sum(-1)
        return out

    def _nats_of(self, index: np.ndarray) -> np.ndarray:
        return self.nats(self._draw(self._tables, index))

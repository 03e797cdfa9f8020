"""From the bytes of an image file to pixels, and folders of such files as data.

Any format that Pillow reads is read: PNG, JPEG, WebP, BMP, GIF and TIFF (their first frame), and others. Images are turned
as their EXIF data say. Palettes become their colours, and transparency an alpha channel; CMYK, YCbCr and the like become
RGB; 16 bits become the nearest 8, as the PNG specification scales them. Files that are broken, no images, or of other
number types are left out and counted.
"""
import io
import pathlib
import warnings
from typing import Any

import numpy as np

from scaling.data import listing

PLAIN = ("L", "LA", "RGB", "RGBA")          # Pillow's modes of 1 to 4 channels of 8 bits, of which the last may be alpha
SPLITS = {"train": "train", "test": "iid", "validation": "iid", "valid": "iid", "val": "iid"}   # folders that are splits


class UnusableImage(ValueError):
    """An image that is left out; the message is the reason under which it is counted."""


def decode_image(data: bytes) -> np.ndarray:
    """The pixels of an image file: uint8 [H, W, 1 to 4 channels]. Raises UnusableImage."""
    from PIL import Image, ImageOps, UnidentifiedImageError
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")           # Pillow's remarks about palettes, damaged EXIF data and large images
            with Image.open(io.BytesIO(data)) as opened:
                whole = opened.format == "PNG" and opened.mode == "I"      # 16 bits, as older Pillows read them
                opened.load()
                image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16") or whole:
                return to_bytes(np.asarray(image).astype(np.uint16)[..., None])
            if image.mode in ("I", "F"):
                raise UnusableImage("not_8_or_16_bits")
            if image.mode != "PA" and "transparency" in image.info:
                image = image.convert("RGBA")
            elif image.mode not in PLAIN:
                modes = {"1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
                image = image.convert(modes.get(image.mode, "RGB"))
            pixels = np.asarray(image)
    except UnusableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnusableImage("not_an_image") from error
    except Image.DecompressionBombError as error:
        raise UnusableImage("too_large") from error
    except Exception as error:           # Pillow's decoders raise many kinds for broken files
        raise UnusableImage("broken") from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Pixels as uint8: 16 bits become the nearest of 8 bits, and booleans 0 and 255."""
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * 255
    if image.dtype != np.uint8:
        raise UnusableImage("not_8_or_16_bits")
    return image


class ImageFiles:
    """Image files as examples {"image": uint8 [H, W, C], "label": int}; an example is read when it is indexed."""

    def __init__(self, files: list[tuple[str, pathlib.Path]], classes: list[str]):
        self.files, self._classes = files, {name: number for number, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index) -> dict[str, Any]:
        name, path = self.files[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UnusableImage("unreadable") from error
        label = {"label": self._classes[class_of(name)]} if self._classes else {}
        return {"image": decode_image(data), **label}


def class_of(name: str) -> str:
    """The folder that an image lies in, or "." for the common folder of all."""
    return pathlib.PurePosixPath(name).parent.name or "."


def find_images(pattern: str) -> tuple[dict[str, ImageFiles], list[str], listing.Listing]:
    """The image files of a path or glob by split, the names of their classes, and the listing.

    Classes are the folders that images lie in, if there are several. If everything lies in folders called "train" and
    "test" (or "validation", "valid", "val"), these are the splits.
    """
    listed = listing.list_files("images", pattern, "photos/**/*.png")
    tops = {name.split("/")[0] if "/" in name else "" for name, _ in listed.files}
    ours = {top: SPLITS[top] for top in tops} if "train" in tops and len(tops) == 2 and tops <= SPLITS.keys() else {}
    splits: dict[str, list] = {"iid": [], "train": []}             # evaluation is read first
    for name, path in listed.files:
        top, _, rest = name.partition("/")
        splits[ours.get(top, "train")].append((rest if ours else name, path))
    folders = {class_of(name) for files in splits.values() for name, _ in files}
    classes = sorted(folders) if len(folders) > 1 else []
    return {split: ImageFiles(files, classes) for split, files in splits.items() if files}, classes, listed

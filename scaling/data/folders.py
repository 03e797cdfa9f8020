"""Image files on this machine as prepared images."""
import functools
import hashlib
import json
import pathlib

from scaling.data import image_files, pictures
from scaling.data.digests import content_digest


def find_folder(pattern: str, root: pathlib.Path, size: int, channels: int, resize: str, crop: str, needed: str = "",
                progress: bool = True) -> pictures.Pictures:
    """The image files of a path or glob, prepared under `root` unless they are there already; raises DataError."""
    sources, classes, listed = image_files.find_images(pattern)
    name = f"images:{pattern}"
    files = [(split, *file) for split, source in sources.items() for file in source.files]
    content = content_digest([path for _, _, path in files], root / "index", progress, name)
    described = [pictures.VERSION, [file[:2] for file in files], content, size, channels, resize, crop]
    state = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
    directory = root / "images" / f"files-{state}"
    shape = functools.partial(pictures.square, size=size, channels=channels, resize=resize, crop=crop)
    labels = {"label": classes} if classes else {}
    notes = [f"the labels are the {len(classes):,} folders that the images lie in"] if classes else []
    notes += ["the folders for training and evaluation are the splits"] if "iid" in sources else []

    def build() -> dict:
        return pictures.prepare_images(name, sources, labels, (), "image", shape, (size, size, channels), directory,
                                       progress, notes)

    return pictures.find_prepared(name, directory, build, needed if needed in labels else "", listed.left_out)

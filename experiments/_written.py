"""Files that `experiments.generate` writes: nothing is overwritten, and scores stand beside the texts of tunes."""

import os
import sys
from collections.abc import Sequence

from etils import epath

from scaling.data import engraving
from scaling.store import files


def write_scores(output: str | None, prompt: str, texts: Sequence[str]) -> dict:
    """Writes the scores of tunes in ABC notation, each text after the prompt, where an output is asked for: `tune.svg`, or
    `tune-1.svg` and so on of several texts. Returns what JSON says of it: the path, or null, of each."""
    if not output:
        return {}
    from scaling.study.recordings import first_tune  # here, since --help of the command needs none of it
    paths, asked = [], epath.Path(output).expanduser()
    for number, text in enumerate(texts, 1):
        path = asked if len(texts) == 1 else asked.with_name(f"{asked.stem}-{number}.svg")
        score = engraving.engrave(first_tune(prompt + text))
        if score is None:
            print(f"sample {number} is no tune that parser and engraver take: no score", file=sys.stderr, flush=True)
        else:
            write_once(path, score)
            print(path)
        paths.append(None if score is None else os.fspath(path))
    return {"scores": paths}


def write_once(path: epath.Path, content: bytes):
    """Writes a new file. One that is there with this content stays; RestoreError where it has another."""
    from scaling.study.restored import RestoreError
    try:
        files.atomic_write(path, content, exclusive=True)
    except files.DiskFull:
        raise
    except OSError as error:
        if not path.exists():
            raise RestoreError(f"{path} cannot be written: {error.strerror or error}") from None
        if not path.is_file() or path.read_bytes() != content:
            raise RestoreError(f"{path} exists and holds something else: name another file by --output") from None

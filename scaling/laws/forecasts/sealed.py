"""Files of JSON that carry a hash of their own content, so that no byte of them changes unseen."""
from __future__ import annotations

import json
import os
from collections.abc import Mapping

from etils import epath

from scaling.laws.forecasts.evidence import json_digest
from scaling.laws.forms.form import LawError
from scaling.store import files


def with_hash(content: Mapping) -> dict:
    """The content as plain JSON values, with their hash under "hash"."""
    plain = json.loads(files.dumps(dict(content)))
    return plain | {"hash": json_digest(plain)}


def whole(content) -> bool:
    """True if the content is a dict whose hash fits it."""
    if not isinstance(content, dict):
        return False
    own = {key: value for key, value in content.items() if key != "hash"}
    return bool(own) and content.get("hash") == json_digest(own)


def to_text(content: Mapping) -> str:
    """The only text that a sealed content is written as."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_sealed(path, what: str) -> dict:
    """The content of a sealed file. Raises LawError if it is not there, is not a `what`, or if any byte was changed."""
    shown = os.fspath(path)
    text, content = parse(path, what)
    if not whole(content) or text != to_text(content):
        raise LawError(f"{shown} was changed after it was written: its content does not match its hash; restore the file")
    return content


def parse(path, what: str):
    """(text, content) of a file of JSON, not compared with any hash. Raises LawError where it cannot be read."""
    path = epath.Path(path)
    try:
        text = path.read_bytes().decode()
        return text, json.loads(text)
    except FileNotFoundError:
        raise LawError(f"there is no {what} at {os.fspath(path)}") from None
    except (ValueError, OSError, RecursionError) as error:
        raise LawError(f"{os.fspath(path)} is not a {what} ({error})") from None

"""What goes wrong with a cluster, and not with a run."""

import re

from scaling.fields import ConfigError


class ClusterError(ConfigError):
    """Ray cannot be reached, or cannot train what it was given."""


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def why_died(text: str) -> str:
    """What Ray says of a dead actor in one line, without its name, address and process."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not re.match(r"\s+\w+: ", line)]
    return " ".join(lines[1:] or lines) or "no reason given"

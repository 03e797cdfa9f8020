"""Errors of a cluster, as opposed to errors of a run."""

import re

from scaling.fields import ConfigError


class ClusterError(ConfigError):
    """Ray cannot be reached, or cannot train a plan."""


def last_line(text: str) -> str:
    """The last line of a message that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def why_died(text: str) -> str:
    """Ray's message about a dead actor in one line, without the actor's name, address and process."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not re.match(r"\s+\w+: ", line)]
    return " ".join(lines[1:] or lines) or "no reason given"

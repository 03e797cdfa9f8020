"""What goes wrong with a cluster, and not with a run."""

from scaling.experiment import ConfigError


class ClusterError(ConfigError):
    """Ray cannot be reached, or cannot train what it was given."""


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"

"""The variants of a config that has several kinds of a study, each in full and quick."""

from collections.abc import Sequence

from scaling.fields import ConfigError, nearest


def kind_and_quick(file: str, variant: str, kinds: Sequence[str]) -> tuple[str, bool]:
    """(the kind that a variant of configs/<file>.py names, whether it is quick); "quick" alone is that of the first kind.

    Raises a ConfigError for an unknown variant, with the nearest ones.
    """
    known = {f"{kind}{scale}": (kind, bool(scale)) for kind in kinds for scale in ("", "-quick")}
    known["quick"] = (kinds[0], True)
    if variant not in known:
        shown = nearest(variant, known)
        raise ConfigError(f"--config=configs/{file}.py:{variant} is not a variant of this config; {shown}")
    return known[variant]

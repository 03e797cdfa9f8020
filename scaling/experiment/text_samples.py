"""The windows that language models write to be judged: what `Text` asks for, and what it may ask for."""

from scaling.evaluate.text_judge import FEWEST, MEASURED_CODE, MEASURED_TEXT
from scaling.fields import ConfigError


def check_samples(text) -> None:
    """Raises a ConfigError for samples of `Text` that cannot be judged."""
    if 0 < text.samples < FEWEST:
        raise ConfigError(f"data.samples={text.samples} are too few to judge; write at least {FEWEST}, or 0 for none")
    if text.samples and text.teacher:
        raise ConfigError(f"data.samples={text.samples} are judged as text, and data.name={text.name} gives tokens without "
                          "text; write data.samples=0")
    if text.sample_length > text.length:
        raise ConfigError(f"data.sample_length={text.sample_length} is longer than the held-out windows, which have "
                          f"data.length={text.length}; write at most that, or 0")
    for name, default in (("sample_length", 0), ("temperature", 1.0)):
        if not text.samples and getattr(text, name) != default:
            raise ConfigError(f"data.{name}={getattr(text, name)} changes nothing without samples; write data.samples= as "
                              f"well, or data.{name}={default}")


def text_judge_fields(text) -> dict:
    """Arguments of the judge of `Text` beside its source; {} for no samples."""
    if not text.samples:
        return {}
    code = text.name.partition("/")[0] == "pycode" or text.name.endswith(".py")
    return {"samples": text.samples, "length": text.sample_length or text.length, "code": code}


def judged_metrics(text) -> tuple[str, ...]:
    """The metrics of its samples."""
    fields = text_judge_fields(text)
    return MEASURED_TEXT + (MEASURED_CODE if fields["code"] else ()) if fields else ()

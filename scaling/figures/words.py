"""Numbers and short texts as reports write them: few digits, plain units, one format for each kind of quantity."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOTHING = "–"  # stands for a value that is missing


def missing(value) -> bool:
    """True for None, an empty text, NaN and infinities."""
    return value is None or value == "" or (isinstance(value, float) and not math.isfinite(value))


def number(value, digits: int = 4) -> str:
    """`value` to `digits` significant digits, with an exponent only where it is short: 0.00123, 1.23 × 10⁻⁷."""
    if missing(value):
        return NOTHING
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return power(value, digits)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace("-", "−")


def with_error(value, error) -> str:
    """`value` ± its standard error, as 1.432 ± 0.012: two digits of the error, and as many decimals of the value."""
    if missing(value) or missing(error) or error <= 0 or not 1e-4 <= abs(value) < 1e6:
        return number(value)
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{decimals}f} ± {error:,.{decimals}f}".replace("-", "−")


def to_error(value, error, digits: int = 2) -> str:
    """`value` with the decimals of the first `digits` digits of its error: 0.2812 with an error of 0.12 is 0.28."""
    if missing(value) or missing(error) or error <= 0 or not 1e-4 <= max(abs(value), error) < 1e6:
        return number(value)
    decimals = max(0, digits - 1 - math.floor(math.log10(error)))
    text = f"{value:,.{min(decimals, 12)}f}"
    return (text.removeprefix("-") if float(text.replace(",", "")) == 0 else text).replace("-", "−")


def interval(low, high) -> str:
    """The ends of an interval, to two digits of its half-width: 0.12 to 0.51. NOTHING where an end is missing."""
    if missing(low) or missing(high):
        return NOTHING
    return f"{to_error(low, (high - low) / 2)} to {to_error(high, (high - low) / 2)}"


def with_interval(value, low, high, level: float = 0.9) -> str:
    """A value with its interval: 0.28 (90% interval 0.12 to 0.51), or "(no interval is known)"."""
    if missing(low) or missing(high):
        return f"{number(value, 2)} (no interval is known)"
    return f"{to_error(value, (high - low) / 2)} ({percent(level)} interval {interval(low, high)})"


def short(value, digits: int = 3) -> str:
    """`number` without trailing zeros, for learning rates and other values that people choose: 0.003."""
    text = number(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text and "×" not in text else text


def count(value, digits: int = 3) -> str:
    """A count with a suffix: 950, 12.3k, 1.2M, 70B."""
    if missing(value):
        return NOTHING
    scales = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (0, ""))
    scale, suffix = next((s, x) for s, x in scales if abs(value) >= s * 0.9995)
    return f"{value / (scale or 1):.{digits}g}{suffix}"


def power(value, digits: int = 3) -> str:
    """Scientific notation: 1.23 × 10¹⁵. With one digit, a mantissa of one is left out: 10¹⁵."""
    if missing(value):
        return NOTHING
    mantissa, exponent = f"{value:.{digits - 1}e}".replace("-", "−", 1 if value < 0 else 0).split("e")
    power_of_ten = "10" + str(int(exponent)).translate(SUPERSCRIPT)
    return power_of_ten if mantissa == "1" else f"{mantissa} × {power_of_ten}"


def compact_power(value) -> str:
    """Scientific notation to two digits without zeros, for FLOPs on axes and labels: 10²¹, 3 × 10²⁰, 6.4 × 10¹⁹."""
    return power(value, 2).replace(".0 ×", " ×").removeprefix("1 × ")


def amount(value: float) -> str:
    """A number on an axis: 0.25, 300M, and 10²¹ beyond the suffixes of `count`."""
    if value < 0 or value < 1e-3 or 1 <= value < 1e3:
        return short(value)
    return count(value) if value < 9e14 else compact_power(value)


def duration(seconds) -> str:
    """Seconds as 4.2 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    if missing(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def percent(fraction, digits: int = 2) -> str:
    """A fraction as a percentage: 0.123 is 12%."""
    return NOTHING if missing(fraction) else f"{number(100 * fraction, digits)}%"


def signed_percent(fraction: float, _=None) -> str:
    """A fraction as a percentage with its sign, as axes write it: +2.5%, −10%, 0. Matplotlib passes a second argument,
    the tick's position, which is ignored."""
    return f"{100 * fraction:+.3g}%".replace("-", "−") if fraction else "0"


def plural(n: int, noun: str) -> str:
    """`n` and the noun, in the plural unless `n` is one: "1 run", "1,024 runs"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listing(parts: Sequence[str], last: str = "and") -> str:
    """The parts as people list them: "a", "a and b", "a, b and c"."""
    return f" {last} ".join([*([", ".join(parts[:-1])] if len(parts) > 1 else []), *parts[-1:]])


def sentence(text: str) -> str:
    """`text` with a capital first letter."""
    return text[:1].upper() + text[1:]


def put_between(text: str, marks: tuple[str, str], inner: str) -> str | None:
    """The text with `inner` as a paragraph between two marks; None where it does not have them, in this order."""
    start, end = (text.find(mark) for mark in marks)
    return f"{text[:start]}{marks[0]}\n\n{inner}\n\n{text[end:]}" if 0 <= start < end else None


def printable(text: str) -> str:
    """`text` for an HTML page. Characters that HTML cannot hold (controls, lone surrogates) become �."""
    text = text.replace("\r\n", "\n")
    bad = ("Cc", "Cn", "Co", "Cs")
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in bad else "�" for c in text)

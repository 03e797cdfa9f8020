"""Any table that any writer wrote: the numbers that are read are those that were written, or one LawError says why not."""
import csv
import gzip
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from scaling import laws
from scaling.laws.tables.read import read_table

NAMES = ("N", "D", "loss", "model params", "train/loss", "val-loss", "flops", "run", "état", "a;b", "x,y", 'say "hi"',
         "_step", "gpt - train/loss", "#", "2020")
GAPS = ("", "NA", "NaN", "None", "-", "null")
FINITE = st.one_of(
    st.floats(1e-6, 1e12).map(lambda x: float(f"{x:.6g}")), st.integers(0, 10 ** 6), st.integers(0, 10 ** 13),
    st.integers(2 ** 63, 2 ** 80), st.floats(0.5, 9.5).map(lambda x: round(x, 3)))
NUMBERS = st.one_of(FINITE, FINITE, st.just(math.nan), st.just(math.inf))
TEXTS = st.sampled_from(("a", "b", "size 1", "x;y", "x,y", 'q"q', "yes", "no", "2024-01-01", "run_1", "None", "#3"))
WRITERS = {}


def writer(made):
    WRITERS[made.__name__] = made
    return made


@st.composite
def tables(draw):
    """{name: values}: at least one column of numbers, of one to eight rows."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    rows, out = draw(st.integers(1, 8)), {}
    for place, name in enumerate(names):
        kind = draw(st.sampled_from(("numbers", "numbers", "texts", "bools"))) if place else "numbers"
        values = {"numbers": NUMBERS if place else FINITE, "texts": TEXTS,
                  "bools": st.booleans()}[kind]  # a row without any value would be no run
        out[name] = draw(st.lists(values, min_size=rows, max_size=rows))
    return out


@writer
def of_pandas(table, draw):
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in table.items()})
    quoting = draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)))
    decimal = draw(st.sampled_from((".", ",")))
    frame = frame.map(lambda x: repr(x).replace(".", decimal) if isinstance(x, float) and math.isfinite(x) else x)
    return frame.to_csv(
        index=draw(st.booleans()), sep=draw(st.sampled_from((",", ";", "\t", "|"))), quoting=quoting,
        na_rep=draw(st.sampled_from(GAPS)), lineterminator=draw(st.sampled_from(("\n", "\r\n", "\r"))))


def without(table, separator):
    """The columns whose names and texts do not hold the separator, for writers that quote nothing."""
    return {name: values for name, values in table.items()
            if separator not in name + "".join(value for value in values if isinstance(value, str))} or {"N": [1.5, 2.5]}


def _plain(value, gap="NA"):
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return gap if math.isnan(value) else "Inf" if math.isinf(value) else repr(value)
    return value if isinstance(value, str) else str(value)


@writer
def of_r(table, draw):
    """write.table and write.csv: quoted names, row names without a name of their own or with an empty one."""
    separator, names, quote = draw(st.sampled_from((" ", ",", ";", "\t"))), draw(st.booleans()), draw(st.booleans())
    table = table if quote else without(table, separator)

    def text(value):
        inner = value.replace('"', '""')
        return f'"{inner}"' if quote else value
    lines = [separator.join([*([text("")] if names and draw(st.booleans()) and quote else []), *map(text, table)])]
    for place, row in enumerate(zip(*table.values())):
        cells = [text(_plain(value)) if isinstance(value, str) else _plain(value) for value in row]
        lines.append(separator.join([*([text(str(place + 1))] if names else []), *cells]))
    return "\n".join(lines) + "\n"


@writer
def of_wandb(table, draw):
    """A history: a step first, every cell in quotes, what was not logged empty."""
    out = io.StringIO()
    rows = [[str(step), *(_plain(value, "") for value in row)] for step, row in enumerate(zip(*table.values()))]
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["Step", *table], *rows])
    return out.getvalue()


@writer
def of_a_shell(table, draw):
    """echo: nothing is quoted; comments, blank lines, spaces about separators, a separator at the end."""
    separator = draw(st.sampled_from((",", " ", ", ", "  ", "\t", ";", " | ")))
    table = without(table, separator.strip() or " ")
    end = draw(st.sampled_from(("", separator.strip() or " ")))
    lines = [separator.join(table) + draw(st.sampled_from(("", end)))]
    gap = draw(st.sampled_from(GAPS))
    lines += [separator.join(_plain(value, gap) for value in row) + end for row in zip(*table.values())]
    for note in draw(st.lists(st.sampled_from(("", "# done, at last", "#")), max_size=3)):
        lines.insert(draw(st.integers(0, len(lines))), note)
    return "\n".join(lines)


@writer
def of_a_spreadsheet(table, draw):
    """Decimal commas or points, thousands in groups, empty rows and columns at the end."""
    decimal, separator = draw(st.sampled_from(((".", ","), (",", ";"), (",", "\t"), (".", ";"))))
    group = draw(st.sampled_from(("", {".": ",", ",": "."}[decimal], " ", "\u00a0", "'")))
    width = draw(st.integers(0, 2))

    def text(value):
        if isinstance(value, (bool, str)) or (isinstance(value, float) and not math.isfinite(value)):
            return _plain(value, "")
        whole, point, rest = str(value).partition(".")
        if "e" in str(value):
            return str(value).replace(".", decimal)
        return f"{int(whole):,}".replace(",", group) + (decimal + rest if point else "")
    out = io.StringIO()
    rows = [list(table), *([text(value) for value in row] for row in zip(*table.values()))]
    rows += [[""] * len(table)] * (draw(st.integers(0, 2)) if len(table) > 1 else 0)
    csv.writer(out, delimiter=separator, lineterminator="\r\n").writerows(row + [""] * width for row in rows)
    return draw(st.sampled_from(("", f"sep={separator}\r\n"))) + out.getvalue()


@writer
def of_json(table, draw):
    rows = [dict(zip(table, row)) for row in zip(*table.values())]
    by_row = {name: {str(place): value for place, value in enumerate(values)} for name, values in table.items()}
    return json.dumps(draw(st.sampled_from((rows, table, by_row))))


@writer
def of_json_lines(table, draw):
    return "\n".join(json.dumps(dict(zip(table, row))) for row in zip(*table.values()))


def spoiled(text, draw):
    """The text with a cell too many or too few in one line."""
    lines = text.splitlines(keepends=True)
    place = draw(st.integers(0, len(lines) - 1))
    separator = draw(st.sampled_from((",", ";", "\t", " 5", ",7")))
    cut = draw(st.booleans())
    bare = lines[place].rstrip("\r\n")
    lines[place] = (bare[:max(len(bare) // 2, 1)] if cut else bare + separator) + lines[place][len(bare):]
    return "".join(lines)


def same(one: float, other) -> bool:
    if isinstance(other, (bool, str)):
        return False
    other = float(other)
    return (math.isnan(one) and math.isnan(other)) or one == other or math.isclose(one, other, rel_tol=1e-12)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@given(table=tables(), data=st.data())
def test_what_was_written_is_read_or_refused(tmp_path_factory, name, ragged, table, data):
    """A column of numbers that is read under a name holds the numbers of that name, in their rows."""
    text = WRITERS[name](table, data.draw)
    if ragged:
        text = spoiled(text, data.draw)
    encoding = data.draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "cp1252")))
    suffix = {"of_json": ".json", "of_json_lines": ".jsonl"}.get(name, data.draw(st.sampled_from((".csv", ".tsv", ".txt"))))
    content, packed = text.encode(encoding, errors="replace"), data.draw(st.booleans())
    path = tmp_path_factory.mktemp("table") / f"points{suffix}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content) if packed else content)
    try:
        frame, _ = read_table(path)
    except laws.LawError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        event("refused")
        return
    event("read")
    for column in frame.columns:
        if column not in table:
            continue
        try:
            read = laws.Runs.from_dataframe(frame, y=column).y
        except laws.LawError as error:
            assert "\n" not in str(error)
            continue
        written = table[column]
        if ragged:  # the line that was spoiled may hold another number; the others may not
            assert abs(len(read) - len(written)) <= 1
            if len(read) == len(written):
                wrong = sum(not _as_number(one, other) for one, other in zip(read, written))
                assert wrong <= 1, (text, column, read, written)
            continue
        assert len(read) == len(written), (text, column)
        assert all(_as_number(one, other) for one, other in zip(read, written)), (text, column, read, written)


def _as_number(one: float, other) -> bool:
    """Whether a number that was read is the value that was written: a number, true as 1, or a gap for a gap's name."""
    if isinstance(other, bool):
        return one == other
    if isinstance(other, str):
        return np.isnan(one) and other in GAPS
    return same(float(one), other)

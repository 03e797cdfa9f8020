"""The reference of the fields of a config, as Markdown that is made from the dataclasses which declare them.

A row has the name as it is written on the command line, the values that the field takes, its default, its meaning, and what
a change of it does. The meaning is that of `Limits`, with the comment beside the field, or else the sentence of the
docstring of its class that names it.
"""

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
import types
import typing

from scaling import experiment, families
from scaling.experiment.experiment import StudyFields
from scaling.experiment.kinds._discovery import _KINDS
from scaling.fields import Limits

EFFECTS = {"plain": "changes the program", "knob": "can be swept in one program", "how": "does not change results"}
OF_STUDY = "changes no run"
BY_SIZE, BY_DATA = "by the size", "by the data"
HEAD = "| field | values | default | meaning | a change of it |\n| --- | --- | --- | --- | --- |\n"
GROUPS = {"family": "[a family](families.md)", "data": "[a kind of data](data.md)", "optim": "[its fields](#the-optimiser)",
          "start": "None, or the fields of [`Start`](api/experiment.md)"}  # of an experiment, instead of numbers and texts

OF_STUDIES = """\
# Fields of a study

A config has every field of an experiment and of the study around it. Each is a flag: `--config.optim.weight_decay=0.05`
overrides what the file says. A field that *changes the program* makes another compiled program. One that *can be swept
in one program* is an argument of the program, so that runs which differ in it train side by side. One that *does not
change results* says how they are computed. Other fields, such as `config.widths` of the quickstart, are those of one
config file, and stand in that file.
"""
OF_DATA = """\
# Fields of data

A family reads one kind of data, or several. Where it reads several, and the config is not for the first,
`config.data.kind` says which.
"""
OF_FAMILIES = """\
# Fields of families

`config.family.name` is the family, and `config.family.size` the number of parameters that its ladder aims at, such as
`1e5`. A field whose default is *by the size* follows from `config.family.size`, and a value of yours overrides it. A
field *by the data* has the value that the data ask for, and is no flag.
"""


def kinds() -> tuple[type, ...]:
    """The classes of all kinds of data."""
    return _KINDS.classes


def comments(cls) -> dict[str, str]:
    """{field of a dataclass: the comment behind its declaration, or alone on the line above; "" for none}, inherited ones
    included."""
    found = {}
    for base in reversed(cls.__mro__):
        found |= _own_comments(base) if "__dataclass_fields__" in vars(base) else {}
    return found


def _own_comments(cls) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    said = {token.start[0]: (token.string.lstrip("# "), not token.line[:token.start[1]].strip())
            for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT}
    found = {}
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign):
            behind = [said[line][0] for line in range(node.lineno, (node.end_lineno or node.lineno) + 1) if line in said]
            above, alone = said.get(node.lineno - 1, ("", False))
            found[node.target.id] = " ".join(behind) or (above if alone else "")
    return found


def meaning(cls, f, comment: str) -> str:
    """What a field means, in words; "" where nothing says so. `comment` is the one beside the field."""
    limits = f.metadata.get("limits", Limits())
    if limits.meaning or comment:
        return "; ".join(filter(None, (limits.meaning, comment)))
    doc = " ".join(inspect.cleandoc(cls.__doc__ or "").split())
    named = re.compile(rf"`{f.name}`|(?<=\. ){f.name}: |^{f.name}: ")
    return next((sentence for sentence in re.split(r"(?<=[.!]) (?=[A-Z`])", doc) if named.search(sentence)), "")


def values(f) -> str:
    """The type of a field with its range or its choices, as Markdown."""
    limits = f.metadata.get("limits", Limits())
    if limits.choices:
        return ", ".join(map(code, limits.choices))
    given = typing.get_args(f.type) if isinstance(f.type, types.UnionType) else (f.type,)
    names = " or ".join("None" if kind is types.NoneType else f"{getattr(kind, '__name__', kind)}" for kind in given)
    return f"{names} {_powers(limits.text)}".strip()


def rows(cls, prefix: str, defaults=types.MappingProxyType({}), effect: str = "") -> list[str]:
    """The rows of a table of the fields of a dataclass, whose names begin with `prefix`.

    defaults: {field: its default in words} where that is not the one of the declaration. effect: what a change of any of
    them does, where the kind of the field does not say so.
    """
    said, found = comments(cls), []
    for f in dataclasses.fields(cls):
        kind = "knob" if f.metadata.get("knob") else "how" if f.metadata.get("how") else "plain"
        group = GROUPS.get(f.name) if cls is experiment.Experiment else None
        default = "" if group else defaults.get(f.name, code(f.default))
        found.append(f"| `--config.{prefix}{f.name}` | {group or values(f)} | {default} | "
                     f"{prose(meaning(cls, f, said[f.name]))} | {effect or EFFECTS[kind]} |\n")
    return found


def family_rows(cls) -> list[str]:
    """The rows of a family, with the defaults that a config of the family has."""
    read = [experiment.find_kind(kind)() for kind in families.reads(cls)]
    given = {name for data in read for name in data.family_fields()}
    of_config = experiment.config(families.name(cls)).family
    defaults = {name: BY_SIZE if value is None else code(value) for name, value in of_config.items()
                if name not in ("name", "size")}
    defaults |= {f.name: code(f.default) for f in dataclasses.fields(cls) if f.metadata.get("also")}
    return rows(cls, "family.", defaults | dict.fromkeys(given, BY_DATA))


def experiment_page() -> str:
    """The page of the fields of a study, of an experiment and of its optimiser."""
    return "".join([
        OF_STUDIES, "\n## The study\n\n", HEAD, *rows(StudyFields, "", effect=OF_STUDY),
        "\n## The experiment\n\n", prose_of(experiment.Experiment), HEAD, *rows(experiment.Experiment, ""),
        "\n## The optimiser\n\n", prose_of(experiment.Optim), HEAD, *rows(experiment.Optim, "optim.")])


def data_page() -> str:
    """The page of the fields of all kinds of data."""
    return "\n".join([OF_DATA, *(f"## {cls.__name__.lower()}\n\n{prose_of(cls)}{HEAD}{''.join(rows(cls, 'data.'))}"
                                for cls in kinds())])


def families_page() -> str:
    """The page of the fields of all families."""
    return "\n".join([OF_FAMILIES, *(f"## {families.name(cls)}\n\nIt reads {' or '.join(families.reads(cls))}.\n\n"
                                    f"{prose_of(cls)}{HEAD}{''.join(family_rows(cls))}" for cls in families.all())])


def prose_of(cls) -> str:
    """The docstring of a class as Markdown."""
    return prose(inspect.cleandoc(cls.__doc__ or ""), cell=False) + "\n\n"


def prose(text: str, cell: bool = True) -> str:
    """Words of the code as Markdown, which keeps what is in backticks; those of a cell of a table on one line."""
    parts = re.split(r"(`[^`\n]*`)", " ".join(text.split()) if cell else text)
    kept = [part if part.startswith("`") else part.replace("<", "&lt;") for part in parts]
    return "".join(re.sub(r"([*_|])", r"\\\1", part) if not part.startswith("`") else part.replace("|", r"\|")
                   for part in kept) if cell else "".join(kept)


def code(value) -> str:
    """A value as it is written on the command line, in the code font of a cell of a table."""
    text = str(value) if value != "" and type(value) is not tuple else repr(value)
    return f"`{text}`".replace("|", r"\|")


def _powers(text: str) -> str:
    """A range with long powers of two as such: 1048576 is 2^20, and 4294967295 is 2^32 - 1."""
    def power(match):
        number = int(match[0])
        for less, end in ((0, ""), (1, " - 1")):
            exponent = (number + less).bit_length() - 1
            if number + less == 2**exponent:
                return f"2^{exponent}{end}"
        return match[0]
    return re.sub(r"(?<![\d.])\d{4,}(?![\d.])", power, text)

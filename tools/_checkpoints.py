"""What the checkpoint tools share: weights read from a path with the names of their axes, tables as text, and errors as
one sentence."""

import dataclasses
import functools
import math
import os
import sys
import warnings

import jax
import numpy as np
from absl import app, flags, logging
from etils import epath
from flax import nnx

from scaling import axes
from scaling import experiment as experiments
from scaling.fields import leaves
from scaling.figures import words
from scaling.store import checkpoint, files


class CheckpointsError(ValueError):
    """The checkpoints cannot be read or do not go together; the message says why."""


EXPECTED = (CheckpointsError, checkpoint.CheckpointError, files.WorkdirError, files.DamagedFile, OSError)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The parameters of one run at one step."""

    path: str
    step: int
    experiment: experiments.Experiment | None  # None where the checkpoint does not say
    arrays: dict[str, np.ndarray]  # by path, "model/layers/mlp/up/weight"; the first part is the player
    names: dict[str, axes.Axes]  # the names of each array's axes

    @property
    def shown(self) -> str:
        return f"{self.path} at step {self.step:,}"


def read(path, run: int | None = None, part: str = "params") -> Weights:
    """The weights under `path`, which is one step, or a directory of steps, of which the newest whole one is read.

    A checkpoint of a pack holds all of its runs: `run` chooses one by its number. `part` is "params" or "ema".
    """
    directory, step = locate(path)
    tree, meta = checkpoint.read_checkpoint(directory, step, part)
    arrays, shown = dict(_flat(tree)), os.fspath(directory)
    written = meta.get("experiment")
    if "experiments" in meta:
        index = _chosen(run, meta["experiments"], shown)
        written = meta["experiments"][index]
        arrays = {name: array[index] for name, array in arrays.items()}
    experiment = _experiment(written, shown)
    return Weights(shown, meta["step"], experiment, arrays, _names(experiment, arrays, shown))


def locate(path) -> tuple[epath.Path, int | None]:
    """(the directory of steps, the step that the path names or None)."""
    asked = os.fspath(path)
    try:
        path = epath.Path(path).expanduser()
        if not path.is_dir():
            raise CheckpointsError(f"there is no directory {asked}")
        inside = sorted(p.name for p in path.iterdir())
    except ImportError as error:
        raise CheckpointsError(f"{asked} needs a package that is not installed: {error}") from None
    if path.name.isdigit() and "state" in inside:
        return path.parent, int(path.name)
    if any(name.isdigit() for name in inside):
        return path, None
    if "params" in inside:
        known = sorted(p.name for p in (path / "params").iterdir())
        example = f"; name one of its {len(known)}, such as {path / 'params' / known[0]}" if known else ""
        raise CheckpointsError(f"{asked} is a workdir, not a checkpoint{example}")
    below = [name for name in inside if name == "trunk" or name.startswith("branch-")]
    if below:
        raise CheckpointsError(f"{asked} holds the checkpoints of several segments; name one of "
                               f"{', '.join(os.fspath(path / name) for name in below)}")
    raise CheckpointsError(f"{asked} holds no checkpoint: a checkpoint has one directory per step")


def steps(path) -> list[epath.Path]:
    """The paths of all steps under a directory of steps, oldest first; the path of one step gives that step."""
    directory, step = locate(path)
    if step is not None:
        return [directory / str(step)]
    return sorted((p for p in directory.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def expand(patterns) -> list[str]:
    """Paths; a pattern with * ? or [ ] gives the directories that match it, sorted by name."""
    found = []
    for pattern in patterns:
        parts = epath.Path(pattern).expanduser().parts
        plain = next((i for i, part in enumerate(parts) if set(part) & set("*?[")), None)
        if plain is None:
            found.append(pattern)
            continue
        matches = sorted(os.fspath(p) for p in epath.Path(*parts[:plain]).glob("/".join(parts[plain:])))
        if not matches:
            raise CheckpointsError(f"nothing matches {pattern}")
        found += matches
    return found


def initial(experiment) -> dict[str, np.ndarray]:
    """The initial arrays of an experiment by path, drawn again from its seed."""
    params = _init(experiment.family, np.int32(experiment.seed))
    return {name: np.asarray(leaf.get_value()) for name, leaf in _variables(params)}


@functools.partial(jax.jit, static_argnames="family")
def _init(family, seed):
    return family.init(jax.random.key(seed))


def same_tree(one: Weights, other: Weights) -> None:
    """Raises CheckpointsError unless both have arrays of the same names, shapes and dtypes."""
    for a, b in ((one, other), (other, one)):
        lacks = sorted(a.arrays.keys() - b.arrays.keys())
        if lacks:
            more = f" and {len(lacks) - 1} more" if len(lacks) > 1 else ""
            raise CheckpointsError(f"{b.path} lacks {lacks[0]!r}{more}, which {a.path} has: "
                                   "they are of different models")
    for name, array in one.arrays.items():
        found = [f"{x.dtype}{list(x.shape)}" for x in (array, other.arrays[name])]
        if found[0] != found[1]:
            raise CheckpointsError(f"{name!r} is {found[0]} in {one.path} and {found[1]} in {other.path}: "
                                   "they are of different models")


def difference(one, other, kinds=("plain", "knob")) -> str | None:
    """A sentence about the first field of these kinds in which two experiments differ, or None."""
    a, b = experiments.to_dict(one)["family"]["name"], experiments.to_dict(other)["family"]["name"]
    if a != b:
        return f"family is {a} in one, {b} in the other"
    theirs = leaves(other)
    for path, (value, kind) in leaves(one).items():
        if kind in kinds and value != theirs[path][0]:
            return f"{path} is {value!r} in one, {theirs[path][0]!r} in the other"
    return None


def table(rows: list[dict], heads: dict[str, str]) -> str:
    """Rows as aligned text, with one column for each entry {key: head} of `heads`; text is set left, numbers right."""
    cells = [list(heads.values())] + [[_cell(row.get(key)) for key in heads] for row in rows]
    texts = {key for key in heads if all(isinstance(row.get(key), str | None) for row in rows)}
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(width) if key in texts else cell.rjust(width)
                               for cell, width, key in zip(line, widths, heads)).rstrip() for line in cells)


def _cell(value) -> str:
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float) and math.isinf(value):
        return "∞"
    return words.number(value, 3) if isinstance(value, float) else value or ""


def run(main) -> None:
    """Runs `main()` as a command. Wrong flags and stray arguments exit with status 2, other errors of the user with 1."""
    logging.set_verbosity(logging.WARNING)
    app.run(functools.partial(_run, main), flags_parser=_parse)


def _run(main, argv):
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: this command takes flags only, see --help")
        main()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; Python flushes into nothing at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (flags.Error, *EXPECTED) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, flags.Error) else 1)


def _parse(argv):
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _chosen(run, written, shown) -> int:
    if len(written) == 1 and run is None:
        return 0
    if run is None or not 0 <= run < len(written):
        first, last = (experiments.knobs(_experiment(e, shown)) for e in (written[0], written[-1]))
        differ = [f"{path} from {value:g} to {last[path]:g}" for path, value in first.items()
                  if value != last[path]]
        raise CheckpointsError(f"{shown} holds {words.plural(len(written), 'run')} trained side by side"
                               f"{' (' + ', '.join(differ) + ')' if differ else ''}: choose one by --run, "
                               f"0 to {len(written) - 1}")
    return run


def _experiment(written, shown):
    if written is None:
        return None
    try:
        return experiments.from_dict(written)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointsError(f"this version of scaling does not know the experiment in {shown}: {error}") from None


def _names(experiment, arrays, shown) -> dict:
    if experiment is None:
        return {name: axes.Axes(f"axis{i}" for i in range(array.ndim)) for name, array in arrays.items()}
    abstract = dict(_variables(jax.eval_shape(experiment.family.init, jax.random.key(0))))
    shapes = {name: leaf.shape for name, leaf in abstract.items()}
    if shapes != {name: array.shape for name, array in arrays.items()}:
        odd = next(name for name in sorted(shapes.keys() | arrays.keys())
                   if name not in arrays or shapes.get(name) != arrays[name].shape)
        raise CheckpointsError(f"{shown} does not hold the model that its own experiment describes: "
                               f"{odd!r} differs")
    return {name: leaf.get_metadata()["axes"] for name, leaf in abstract.items()}


def _variables(params) -> list:
    """[(path, nnx.Variable)] of a family's parameters; paths are written as in checkpoints."""
    def leaf(x):
        return isinstance(x, nnx.Variable)

    pairs, _ = jax.tree_util.tree_flatten_with_path(dict(params), is_leaf=leaf)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), variable) for path, variable in pairs]


def _flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value

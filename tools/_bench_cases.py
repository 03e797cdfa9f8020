"""What `tools.bench` measures: the models, the batches, the sweeps. It imports neither JAX nor torch."""

import fnmatch
from typing import NamedTuple

IMAGE_BATCH = 64
IMAGE_MEMBERS = ("vae/tokens", "vae/conv", "gan/tokens", "gan/conv")
IMAGE_SIZES = (1e4, 1e5, 5e5)  # parameters, about, as the ladders take them


class Text(NamedTuple):
    """A Transformer over bytes."""

    name: str
    width: int
    layers: int
    heads: int
    batch: int = 32
    length: int = 256
    vocab: int = 256

    @property
    def unit(self) -> str:
        return "tokens/s"

    @property
    def per_step(self) -> int:
        return self.batch * self.length


class Image(NamedTuple):
    """A member of a family of images, on grey images of 16x16."""

    name: str
    member: str  # family, or family/body, or family/variant
    size: float  # parameters, about
    batch: int = IMAGE_BATCH

    @property
    def unit(self) -> str:
        return "steps/s"

    @property
    def per_step(self) -> int:
        return 1


class Member(NamedTuple):
    """A member of a family of sequences, on its own example batches."""

    name: str
    family: str  # family/variant
    size: float  # parameters, about
    batch: int = 32
    length: int = 128

    @property
    def unit(self) -> str:
        return "steps/s"

    @property
    def per_step(self) -> int:
        return 1


VARIANTS = {"lstm": {"cell": "lstm"}, "gru": {"cell": "gru"}, "mingru": {"cell": "mingru"}, "minlstm": {"cell": "minlstm"},
            "tokens": {"body": "tokens"}, "conv": {"body": "conv"}, "attacked": {"radius": 0.05}}
CAPTION = 24  # bytes, of families that write captions


def build(values: dict):
    """The case of `case._asdict()`, which is how it comes to another process."""
    return (Text if "width" in values else Member if "family" in values else Image)(**values)


TEXTS = (Text("S0", 64, 2, 2), Text("S1", 128, 4, 4), Text("S2", 256, 6, 8), Text("S3", 512, 8, 8))
IMAGES = tuple(Image(f"{member}/{size:.0e}".replace("e+0", "e"), member, size)
               for member in IMAGE_MEMBERS for size in IMAGE_SIZES)
OTHER_MEMBERS = ("diffusion", "fsq", "coded", "multimodal", "classifier", "classifier/attacked")
OTHER_IMAGES = tuple(Image(f"{member}/{size:.0e}".replace("e+0", "e"), member, size)
                     for member in OTHER_MEMBERS for size in (1e5, 5e5))
SEQUENCES = ("transformer", "recurrent/lstm", "recurrent/gru", "recurrent/mingru", "recurrent/minlstm", "hmm", "masked",
             "seq2seq", "textgan")
MEMBERS = tuple(Member(f"{family}/{size:.0e}".replace("e+0", "e"), family, size)
                for family in SEQUENCES for size in (1e5, 1e6))
TINY = (Text("tiny", 16, 1, 2, 4, 16), Image("vae/tokens/tiny", "vae/tokens", 1e4, 4))  # to check that the command works


WARMUP = 8  # steps; the shortest runs have so many


class Sweep(NamedTuple):
    """A sweep that is trained as a whole: every model with every learning rate on every number of tokens."""

    name: str
    models: tuple[Text, ...]
    rates: int
    tokens: tuple[int, ...]
    evaluation_tokens: int = 2**16

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """From 1e-3 to 1.6e-2, at equal ratios."""
        return tuple(1e-3 * 16 ** (i / max(1, self.rates - 1)) for i in range(self.rates))

    @property
    def runs(self) -> int:
        return len(self.models) * self.rates * len(self.tokens)

    @property
    def launches(self) -> list[tuple[Text, int]]:
        """(model, tokens) of the runs that differ in cost; each stands for `rates` runs, which cost the same."""
        return [(model, tokens) for model in self.models for tokens in self.tokens]


def _small(width, layers):
    return Text(f"{width}x{layers}", width, layers, max(1, width // 16), 8, 128)


SWEEPS = (Sweep("learning rates", TEXTS[:1], 24, (2**18,)),
          Sweep("data sizes", TEXTS[:1], 3, (2**16, 2**17, 2**18, 2**19)),
          Sweep("small and short", (_small(16, 2), _small(32, 2), _small(48, 3)), 8, (2**16,), 2**15))
TINY_SWEEPS = (Sweep("tiny", (Text("tiny", 16, 1, 2, 4, 32),), 2, (1024,), 1024),)

DEPTHS, TINY_DEPTHS = (4, 8, 16, 32, 64), (1,)
PACKS, TINY_PACKS = (1, 4, 16), (1, 2)

ATTENTIONS = ((128, 2, 32), (256, 2, 32), (256, 8, 32), (512, 4, 64))  # length, heads, dimensions of a head
TINY_ATTENTIONS = ((16, 2, 8),)


def matching(cases, patterns) -> list:
    """The cases whose names match one of the patterns, in order. Raises ValueError for a pattern that matches none."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(case.name, pattern) for case in cases):
            raise ValueError(f"{pattern!r} matches none of {', '.join(case.name for case in cases)}")
    return [case for case in cases if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]


def sweep_named(name) -> Sweep:
    """The sweep whose name, with underscores for spaces, is `name`. Raises ValueError."""
    for sweep in (*SWEEPS, *TINY_SWEEPS):
        if sweep.name.replace(" ", "_") == name:
            return sweep
    raise ValueError(f"no sweep is called {name!r}")

"""Coordinate checks: sizes of activations and of their changes after some steps, against the width or the depth of a model.

Networks tell the layout in force where the features of every activation lie (`nn.constrain`), block outputs, heads and
logits included. A placement that moves nothing records each in the order of the forward pass. The step is that of training,
and all steps see one batch, so that the changes are in one direction.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from sources import tiny

from scaling import families, nn
from scaling.devices import sharding
from scaling.experiment import Experiment
from scaling.families.fsq import FSQ
from scaling.families.transformer import Transformer
from scaling.training.step import TRUNK, init_state, train_step

BATCH, STEPS = 8, 4
OUTPUTS = {"transformer": "vocab", "recurrent": "vocab", "masked": "vocab", "vae": "pixels", "gan": "logit",
           "diffusion": "pixel", "fsq": "pixels", "classifier": "vocab", "textgan": "logit", "coded": "vocab",
           "multimodal": "vocab"}
STANDING = ("coded", "multimodal")  # on a tokenizer, whose codes follow the images here
TOKENIZER = FSQ(width=16, layers=1, code_levels="5,4")
BASE = {"optim.clip": 0.0, "optim.warmup": 0, "optim.schedule": "constant", "optim.weight_decay": 0.0, "data.batch": BATCH}


class Recording(sharding.Placement):
    """Keeps every activation of vectors that a program names, with the name of its last axis."""

    def __init__(self):
        self.found = []

    def constrain(self, x, names):
        if "batch" in names:
            self.found.append((names[-1], x))
        return x


def experiment(name, optimiser, rate, **changes) -> Experiment:
    """A small member of a family and its body, `name` as in "gan conv"."""
    family, _, body = name.partition(" ")
    if family in STANDING:
        own = {field.removeprefix("family."): changes.pop(field) for field in list(changes) if field.startswith("family.")}
        changes |= {"family.model": Transformer(**own, scan=False), "family.tokenizer": TOKENIZER}
    e = tiny(family, **BASE, **{"optim.name": optimiser, "optim.learning_rate": rate, **changes})
    return e.replace({"family.cell" if family == "recurrent" else "family.body": body}) if body else e


def coordinates(e: Experiment, steps=STEPS) -> dict[str, dict[str, float]]:
    """{"size", "change", "output size", "output change"}: {activation: its root mean square at the end, that of its change
    since the start}, and the same of what leaves the networks. Of the logits of routers they are "router size" and
    "router change". Activations are "<place in the forward pass> <last axis>".
    """
    batch = structured(dict(e.family.example_batch(BATCH, jax.random.key(3))), e.family)
    state = jax.jit(lambda: init_state(e, awake(e.family)))()
    step = jax.jit(lambda state: train_step(e, TRUNK, state, batch)[0])
    before = activations(e.family, state.params, batch)
    for _ in range(steps):
        state = step(state)
    after = activations(e.family, state.params, batch)
    assert np.isfinite(_rms(after[-1][1]))
    changes = [(name, x - y) for (name, x), (_, y) in zip(after, before, strict=True)]
    written = {"gan": ["image"], "textgan": ["vocab"]}  # by generators
    ends = [OUTPUTS[families.name(e.family)], *written.get(families.name(e.family), [])]
    found = {}
    for what, pairs in (("size", after), ("change", changes)):
        each = {f"{i} {name}": _rms(x) for i, (name, x) in enumerate(pairs)}
        found[what] = {place: size for place, size in each.items() if place.split()[1] not in [*ends, "choices"]}
        found[f"router {what}"] = {place: size for place, size in each.items() if place.split()[1] == "choices"}
        found[f"output {what}"] = {place: size for place, size in each.items() if place.split()[1] in ends}
    return found


def awake(family):
    """Parameters of a tokenizer that tells images apart, for families that stand on one. Fresh ones give all one code."""
    if families.name(family) not in STANDING:
        return {}
    shape = family.tokenizer.width, family.tokenizer.code_channels
    return {"tokenizer/model/narrow/weight": jax.random.normal(jax.random.key(8), shape)}


def structured(batch, family):
    """The batch with waves for images: example batches hold noise of every pixel, to which no update can align."""
    if "image" not in batch:
        return batch
    count, side = batch["image"].shape[:2]
    frequencies, phases = np.random.default_rng(0).uniform(-0.6, 0.6, (2, count, 1, 1)), np.arange(count).reshape(-1, 1, 1)
    rows, columns = np.mgrid[:side, :side]
    waves = np.sin(frequencies[0] * rows + frequencies[1] * columns + phases)[..., None]
    levels = np.round((waves + 1) / 2 * (family.levels - 1)).astype(np.uint8)
    return {**batch, "image": jnp.asarray(np.broadcast_to(levels, batch["image"].shape))}


def by_axis(sizes: dict[str, float]) -> dict[str, float]:
    """The root mean squares of all activations with one last axis, whatever their number: those of all layers."""
    names = sorted({place.split()[1] for place in sizes})
    return {name: float(np.sqrt(np.mean([size**2 for place, size in sizes.items() if place.split()[1] == name])))
            for name in names}


def activations(family, params, batch):
    """[(name of the last axis, array)] of a forward pass of every network of a family, its layers unrolled."""
    batch = {**batch, "example": jnp.arange(BATCH), "step": jnp.zeros(BATCH, jnp.int32)}
    forward, names = _recorded(family)
    return [(name, np.asarray(x, np.float32)) for x, name in zip(forward(params, batch), names)]


@functools.lru_cache(maxsize=2)
def _recorded(family):
    """(a compiled function of parameters and a batch that returns all activations, their names once it was called)."""
    names = []

    def forward(params, batch):
        recording = Recording()
        with sharding.placed(recording), jax.disable_jit():  # within a program this unrolls its loops, and no more
            outputs = _forward(family, params, batch, jax.random.key(5))
        found = [*recording.found, *outputs]
        names[:] = [name for name, _ in found]
        return [x for _, x in found]
    return jax.jit(forward), names


def _forward(family, params, batch, key):
    name = families.name(family)
    if name in ("transformer", "recurrent"):
        return [("vocab", family.logits(params, batch["tokens"][:, :-1]))]
    if name == "masked":
        module = family.module(params)
        return [("vocab", module.logits(module.read(batch["tokens"][:, 1:], batch["tokens"][:, 1:] % 5 == 0)))]
    if name == "vae":
        module = family.module(params)
        outputs, _ = module.decode(batch, family.noise(key, batch), module.encode(batch))
        return [("pixels", outputs)]
    if name == "diffusion":
        images = nn.levels_to_signed(batch["image"], family.levels)
        z, sigma = images + nn.noise(key, batch["example"], images.shape[1:]), jnp.ones(len(images))
        return [("pixel", family.denoise(params, batch)(z, sigma))]
    if name == "classifier":
        return [("vocab", family.logits(params, nn.levels_to_signed(batch["image"], family.levels)))]
    if name == "fsq":
        module = family.module(params)  # without rounding, whose jumps say nothing of the sizes of activations
        return [("pixels", module.decode(jnp.tanh(module.encode(batch["image"]))))]
    if name == "coded":
        codes = family.tokenizer.encode_images(family.tokens_of(params), batch["image"])
        return [("vocab", family.model.logits(params, family.windows(batch, codes)[:, :-1]))]
    if name == "multimodal":
        text, seen, _ = family.read(params, batch)
        of_text, of_image = (module := family.module(params)).outputs(text, seen, jnp.arange(BATCH) % 2 == 0)
        return [("vocab", module.text_logits(of_text)), ("vocab", module.logits(of_image, module.codes))]
    if name == "textgan":
        disc = family.critic(params)
        return [("vocab", family.logits(params, batch["tokens"][:, :-1])), ("logit", disc(disc.embed(batch["tokens"])))]
    images = nn.levels_to_signed(batch["image"], family.levels)
    return [("image", family._generate(params, batch, key)), ("logit", family.module(params, "disc")(images, batch))]


def _rms(x) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def slopes(found: dict[float, dict[str, float]]) -> dict[str, float]:
    """{activation: slope of the logarithm of its size against log x}, given {x: {activation: size}}."""
    x = np.log(np.array(sorted(found)))
    x = x - x.mean()
    sizes = {name: np.log([max(found[key][name], 1e-12) for key in sorted(found)]) for name in next(iter(found.values()))}
    return {name: float(x @ (y - y.mean()) / (x @ x)) for name, y in sizes.items()}


@functools.lru_cache(maxsize=512)
def measured(name, optimiser, rate, changes, steps=STEPS):
    """`coordinates` of a member with these changes, an (ordered) tuple of pairs."""
    return coordinates(experiment(name, optimiser, rate, **dict(changes)), steps)

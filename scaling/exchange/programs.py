"""What a run computes as one StableHLO program, which `jax.export` reads without this package.

    program.stablehlo   the serialised program; its arguments are {path: parameter} and {name: input}
    model.safetensors   the parameters by path
    config.json         the experiment, the inputs and what comes out
    README.md           how to run it
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from scaling import families
from scaling.devices import sharding
from scaling.exchange.arrays import CONFIG, described, write_arrays
from scaling.exchange.errors import ExchangeError
from scaling.exchange.plain import abstract_arrays, from_flat
from scaling.store import files

PROGRAM = "program.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")
BATCH = 32  # of programs whose batch size cannot stay open
README = """# {title}

This folder holds run {fingerprint} as a program in StableHLO, made by JAX {version} for {platforms}. It needs `jax` and
`safetensors`, and runs on the platforms above.

```python
import pathlib

import numpy as np
from jax import export
from safetensors.numpy import load_file

folder = pathlib.Path({folder!r})
program = export.deserialize(bytearray((folder / "{program}").read_bytes()))
params = load_file(folder / "model.safetensors")
inputs = {inputs}
outputs = program.call(params, inputs)
```

It computes {computes}. {sizes} `config.json` says which experiment the run was.
"""


def write_program(folder: pathlib.Path, run) -> str:
    """Writes the program of a restored run; returns what it computes, in words. ExchangeError where none can be made."""
    computes, function, shapes = program_of(run)

    def program(arrays, inputs):
        return function(from_flat(run.family, arrays), inputs)

    exported, sizes = _exported(program, abstract_arrays(run.family), shapes, run.family)
    try:
        (folder / PROGRAM).write_bytes(exported.serialize())
    except ImportError:
        raise ExchangeError("--format=stablehlo needs a package that is not installed: pip install flatbuffers") from None
    write_arrays(folder, run.params)
    inputs = {name: {"shape": [str(size) for size in x.shape], "dtype": str(x.dtype)} for name, x in sizes.items()}
    files.write_json(folder / CONFIG, {**described(run), "computes": computes, "inputs": inputs,
                                       "platforms": list(exported.platforms)})
    (folder / "README.md").write_text(_readme(folder, run, computes, sizes, exported), encoding="utf-8")
    return computes


def program_of(run) -> tuple[str, Any, dict[str, tuple[tuple, Any]]]:
    """(what is computed, function of parameters and inputs, {input: (shape, type)}) of a restored run.

    In shapes "b" is the batch size and "s" the number of tokens of a text. A family of text gives logits, one of images
    draws them, and any other gives the loss of each example.
    """
    family = run.family
    batch = jax.eval_shape(lambda: family.example_batch(1, jax.random.key(0)))
    if hasattr(family, "logits"):
        names = [name for name in ("source",) if name in batch]
        shapes = {name: (("b", *batch[name].shape[1:]), jnp.int32) for name in names} | {"tokens": (("b", "s"), jnp.int32)}
        return ("the float32 logits [batch, tokens, vocabulary] of the token that follows each one",
                lambda params, given: family.logits(params, *(given[name] for name in (*names, "tokens"))), shapes)
    shapes = {name: (("b", *x.shape[1:]), x.dtype) for name, x in batch.items() if name != "example"}
    shapes["example"] = (("b",), jnp.int32)
    if hasattr(family, "sample") and "images" in families.reads(family):
        shapes = {name: x for name, x in shapes.items() if name != "image"} | {"seed": ((), jnp.int32)}

        def draw(params, given):
            conditions = {name: x for name, x in given.items() if name != "seed"}
            return family.sample(params, conditions, jax.random.fold_in(jax.random.key(given["seed"]), 1))

        return ("images, uint8 [batch, height, width, channels], of which one depends on the seed and the number of its "
                "example alone", draw, shapes)

    def losses(params, given):
        found = family.evaluate(params, given, jax.random.key(0))
        return found["loss"].over / found["loss"].under

    if "loss" not in jax.eval_shape(lambda: family.evaluate(family.init(jax.random.key(0)), family.example_batch(
            1, jax.random.key(0)) | {"example": jnp.zeros(1, jnp.int32)}, jax.random.key(0))):
        raise ExchangeError(f"the family {families.name(family)} has neither logits, images nor a loss of an example, so "
                            "there is nothing to compute; write --format=safetensors")
    return "the loss of each example, float32 [batch], as evaluation has it", losses, shapes


def _exported(program, arrays, shapes, family):
    """(the exported program, {input: shape and type}) with as many sizes open as the family allows."""
    errors = []
    for sizes in open_sizes(family, any("s" in shape for shape, _ in shapes.values())):
        inputs = {name: jax.ShapeDtypeStruct(tuple(sizes.get(size, size) for size in shape), dtype)
                  for name, (shape, dtype) in shapes.items()}
        try:
            with sharding.as_on("cpu", plain=True):  # the form of a model that every platform computes
                return jax_export.export(jax.jit(program), platforms=PLATFORMS)(arrays, inputs), inputs
        except (TypeError, ValueError, NotImplementedError, ArithmeticError) as error:
            errors.append(error)
    raise ExchangeError(f"jax.export makes no program of the family {families.name(family)} ({errors[-1]}); write "
                        "--format=safetensors") from errors[-1]


def open_sizes(family, length_too: bool) -> Iterator[dict[str, Any]]:
    """Sizes to try: all open, if `length_too`, the batch size open, none open. Each is {"b": batch, "s": tokens}."""
    longest = getattr(family, "longest", None)
    if length_too:
        batch, length = jax_export.symbolic_shape("b, s", constraints=["s >= 1", *([f"s <= {longest}"] if longest else [])])
        yield {"b": batch, "s": length}
    length = getattr(family, "length", 1)
    yield {"b": jax_export.symbolic_shape("b")[0], "s": length}
    yield {"b": BATCH, "s": length}


def _readme(folder, run, computes, inputs, exported) -> str:
    def zeros(x):
        shape = tuple(size if isinstance(size, int) else 2 if str(size) == "b" else 4 for size in x.shape)
        many = "np.arange(2, dtype=np.int32)" if shape == (2,) else f"np.zeros({shape}, np.{np.dtype(x.dtype).name})"
        return many

    shown = ",\n          ".join(f'"{name}": {zeros(x)}' for name, x in inputs.items())
    still = {str(size) for x in inputs.values() for size in x.shape if not isinstance(size, int)}
    said = {frozenset("bs"): "The batch size and the number of tokens are free.", frozenset("b"): "The batch size is free."}
    return README.format(
        title=f"{families.name(run.family)} {run.fingerprint}", fingerprint=run.fingerprint, version=jax.__version__,
        platforms=", ".join(exported.platforms), program=PROGRAM, folder=".", inputs=f"{{{shown}}}", computes=computes,
        sizes=said.get(frozenset(still), "All sizes are fixed."))

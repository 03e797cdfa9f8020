"""What a run computes as a model in ONNX, through `jax2onnx`, and checked in `onnxruntime`.

    model.onnx          the model with its parameters; those of large models lie in model.onnx.data beside it
    config.json         the experiment, the inputs and what comes out
    README.md           how to run it

The batch size stays open. The length of a text does not: the converter loses track of sizes that follow from it. A model
that sees no later tokens reads a shorter text all the same, padded on the right.
"""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Generator

import jax
import jax.numpy as jnp
import numpy as np

from scaling import families
from scaling.devices import sharding
from scaling.exchange.arrays import CONFIG, described
from scaling.exchange.errors import ExchangeError
from scaling.exchange.programs import open_sizes, program_of
from scaling.store import files

MODEL, OUTPUT = "model.onnx", "outputs"
PACKAGES = ("jax2onnx", "onnxruntime")
TOLERANCE = 1e-4  # of what the model gives, relative to its spread where that is more than one
MISSING = "--format=onnx needs jax2onnx, which is not installed: pip install 'scaling[onnx]', or write --format=stablehlo"
README = """# {title}

This folder holds run {fingerprint} as a model in ONNX. It needs `onnxruntime`, or any other program that reads ONNX.

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
inputs = {inputs}
[outputs] = session.run(["{output}"], inputs)
```

It computes {computes}, in float32. {sizes} `config.json` says which experiment the run was.
"""


def write_onnx(folder: pathlib.Path, run) -> str:
    """Writes the model of a restored run; returns what it computes, in words.

    Raises an ExchangeError where the packages are not installed, where the converter lacks an operation of the family, and
    where the model gives other numbers in `onnxruntime` than the run.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PACKAGES:
            raise
        raise ExchangeError(MISSING) from None
    if getattr(run.family, "dtype", "float32") != "float32":  # which few operators of ONNX take
        run = dataclasses.replace(run, experiment=run.experiment.replace({"family.dtype": "float32"}))
    computes, function, shapes = program_of(run)
    errors = []
    for sizes in open_sizes(run.family, False):
        inputs = {name: jax.ShapeDtypeStruct(tuple(sizes.get(size, size) for size in shape), dtype)
                  for name, (shape, dtype) in shapes.items()}
        try:
            _convert(jax2onnx.to_onnx, function, run.params, inputs, folder / MODEL)
            onnxruntime.set_default_logger_severity(3)
            session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])
            _check(session, run, function, inputs)
            break
        except Exception as error:  # both packages raise errors of many kinds
            errors.append(" ".join(f"{type(error).__name__}: {error}".split())[:200])
            for path in folder.glob(f"{MODEL}*"):
                path.unlink()
    else:
        raise ExchangeError(f"jax2onnx makes no model of the family {families.name(run.family)} that onnxruntime computes "
                            f"alike ({errors[-1]}); write --format=stablehlo")
    about = {name: {"shape": [str(size) for size in x.shape], "dtype": str(x.dtype)} for name, x in inputs.items()}
    files.write_json(folder / CONFIG, {**described(run), "computes": computes, "inputs": about})
    (folder / "README.md").write_text(_readme(run, computes, inputs), encoding="utf-8")
    return computes


def _convert(to_onnx, function, params, inputs, path):
    def model(*given):
        return function(params, dict(zip(inputs, given, strict=True)))

    with sharding.as_on("cpu", plain=True), _quiet():
        jax.eval_shape(model, *inputs.values())  # so that what a first trace keeps is not made of the converter's functions
        to_onnx(model, list(inputs.values()), model_name="run", return_mode="file", output_path=path,
                input_names=list(inputs), output_names=[OUTPUT])


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Hides the warnings of the converter about shapes that it does not know, which `onnxruntime` finds for itself."""
    logger = logging.getLogger("onnx_ir")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check(session, run, function, inputs) -> None:
    """Raises a ValueError where the model and the run differ on random examples, at every batch size that is tried."""
    compute = jax.jit(function)
    for batch in (1, 3) if any(map(_is_open, inputs.values())) else (None,):
        given = _example(run.family, inputs, batch)
        [found] = session.run([OUTPUT], given)
        own = np.asarray(compute(run.params, given))
        if found.dtype != own.dtype or found.shape != own.shape:
            raise ValueError(f"the model gives {found.dtype}{list(found.shape)}, and the run {own.dtype}{list(own.shape)}")
        allowed = 1.0 if own.dtype == np.uint8 else TOLERANCE * max(1.0, float(own.std()))  # a level of an image
        if not (apart := np.abs(found.astype(np.float64) - own).max()) <= allowed:
            raise ValueError(f"what the model gives differs by {apart:.2g} from what the run gives")


def _is_open(x) -> bool:
    return any(not isinstance(size, int) for size in x.shape)


def _example(family, inputs, batch: int | None) -> dict[str, np.ndarray]:
    """Inputs of a batch size, or of the one that they have."""
    shapes = {name: tuple(size if isinstance(size, int) else batch for size in x.shape) for name, x in inputs.items()}
    count = max((shape[0] for shape in shapes.values() if shape), default=1)
    drawn = {"example": jnp.arange(count), "seed": jnp.int32(7), **family.example_batch(count, jax.random.key(0))}
    if "tokens" in shapes and "tokens" not in drawn:  # of a family that reads them as the first ones of its answer
        drawn["tokens"] = jax.random.randint(jax.random.key(1), shapes["tokens"], 0, family.vocab)
    return {name: np.asarray(drawn[name][tuple(slice(size) for size in shape)], inputs[name].dtype)
            for name, shape in shapes.items()}


def _readme(run, computes, inputs) -> str:
    def zeros(x):
        shape = tuple(size if isinstance(size, int) else 2 for size in x.shape)
        return f"np.zeros({shape}, np.{np.dtype(x.dtype).name})"

    shown = ",\n          ".join(f'"{name}": {zeros(x)}' for name, x in inputs.items())
    return README.format(
        title=f"{families.name(run.family)} {run.fingerprint}", fingerprint=run.fingerprint, inputs=f"{{{shown}}}",
        output=OUTPUT, computes=computes,
        sizes="The batch size is free." if any(map(_is_open, inputs.values())) else "All sizes are fixed.")

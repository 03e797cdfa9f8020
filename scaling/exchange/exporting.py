"""Restored runs as folders that other programs read."""

import os
import pathlib
from typing import Any

from scaling.exchange import arrays, huggingface, onnx_models, programs
from scaling.exchange.errors import ExchangeError
from scaling.exchange.folders import FORMATS, new_folder
from scaling.fields import nearest


def export(run, output, form: str = "hf") -> dict[str, Any]:
    """Writes a restored run into a new folder, and returns what was made: {"output", "format", "files", ...}.

    `form` is one of `FORMATS`: "hf", a checkpoint for Hugging Face `transformers`, with "model_type"; "safetensors", all
    parameters by path, which `read_exported` reads back; "stablehlo", a program that `jax.export` deserialises, with what
    it "computes"; "onnx", a model that `onnxruntime` runs, likewise. The folder appears whole or not at all. ExchangeError
    for one that holds files, for a run that the format does not hold, and for an unknown format.
    """
    if form not in FORMATS:
        raise ExchangeError(f"--format={form} is not known; {nearest(form, FORMATS)}")
    with new_folder(output) as folder:
        about: dict[str, Any] = {}
        if form == "hf":
            about["model_type"] = huggingface.write_huggingface(folder, run)
        elif form == "stablehlo":
            about["computes"] = programs.write_program(folder, run)
        elif form == "onnx":
            about["computes"] = onnx_models.write_onnx(folder, run)
        else:
            arrays.write_run(folder, run)
        written = sorted(path.name for path in folder.iterdir())
    return {"output": os.fspath(pathlib.Path(output).expanduser()), "format": form, "files": written, **about}

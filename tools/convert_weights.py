"""Convert weights of a pretrained network from torch's format to safetensors. Needs torch.

    python -m tools.convert_weights --input=pt_inception-2015-12-05-6726825d.pth
    python -m tools.convert_weights --input=dinov2_vits14_pretrain.pth --output=weights/vits14.safetensors

writes pt_inception-2015-12-05-6726825d.safetensors beside the input, or the file named by --output, and prints its
path. Give that path to a study as --config.data.weights, with --config.data.features=inception or dinov2.

The input is a state dict, as torch.save(model.state_dict(), path) writes it. It may lie under a key "state_dict",
"model" or "teacher" of a dict. Only its tensors are converted. torch reads it with weights_only=True, so a file that
would run code is refused. The output's metadata hold the SHA-256 of the input, by which results name the network and
by which the official files are recognised, and the SHA-256 of the arrays, which is checked whenever they are read.

torch is not among this package's requirements: `pip install torch`. Exit status: 0, 1 when the input cannot be
converted, 2 for flags; the reason is one sentence on standard error.
"""

import hashlib
import pathlib
import sys

import numpy as np
from absl import app, flags

from scaling.evaluate.pretrained.weights import WeightsError, write_weights
from scaling.store import files

_INPUT = flags.DEFINE_string("input", None, "The .pth or .pt file to convert.")
_OUTPUT = flags.DEFINE_string("output", None, "The .safetensors file to write; by default beside --input, with its name.")

WRAPPERS = ("state_dict", "model", "teacher")


def main(argv):
    try:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: name the file by --input={argv[1]}")
        if not _INPUT.value:
            raise flags.Error("name the file to convert by --input=FILE.pth")
        source = pathlib.Path(_INPUT.value).expanduser()
        output = pathlib.Path(_OUTPUT.value).expanduser() if _OUTPUT.value else source.with_suffix(".safetensors")
        if output.suffix != ".safetensors":
            raise flags.Error(f"--output={_OUTPUT.value} must end in .safetensors")
        convert(source, output)
        print(output)
    except (flags.Error, WeightsError, files.DiskFull) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, flags.Error) else 1)


def convert(source: pathlib.Path, output: pathlib.Path) -> None:
    """Writes the tensors of the torch file `source` to the safetensors file `output`; raises WeightsError."""
    if not source.is_file():
        raise WeightsError(f"there is no file {str(source)!r}: name the file to convert by --input")
    arrays = read_torch(source)
    if not arrays:
        raise WeightsError(f"{str(source)!r} holds no tensors by name: save them with torch.save(model.state_dict(), path)")
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    write_weights(output, arrays, digest)


def read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict as arrays. bfloat16, which NumPy lacks, becomes float32, which holds it exactly."""
    try:
        import torch
    except ImportError as error:
        raise WeightsError(f"torch reads {str(path)!r} and is not installed ({error}): pip install torch, "
                           "or convert the file where torch is") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, with long advice after the first line
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"torch cannot read {str(path)!r} as plain tensors ({lines[0]}): "
                           "save them with torch.save(model.state_dict(), path)") from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        return {}
    tensors = {name: value.detach() for name, value in state.items() if isinstance(value, torch.Tensor)}
    return {name: (value.float() if value.dtype == torch.bfloat16 else value).numpy() for name, value in tensors.items()}


if __name__ == "__main__":
    app.run(main)

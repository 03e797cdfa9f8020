"""Runs for other programs, and models of other programs as runs.

    exchange.export(scaling.restore("runs/quickstart"), "quickstart_hf", "hf")    # AutoModelForCausalLM.from_pretrained
    exchange.export(scaling.restore("runs/vae"), "vae", "safetensors")            # and every other family
    exchange.export(scaling.restore("runs/quickstart"), "quickstart_onnx", "onnx")
    experiment, params = exchange.read_exported("vae")
    exchange.import_checkpoint("gpt2_folder", "runs/gpt2")                        # then scaling.restore("runs/gpt2")

The commands are `experiments.export` and `experiments.import_checkpoint`.
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.exchange.arrays import read_exported
    from scaling.exchange.errors import ExchangeError
    from scaling.exchange.exporting import export
    from scaling.exchange.folders import FORMATS
    from scaling.exchange.importing import import_checkpoint

__getattr__, __dir__ = lazy(__name__)
__all__ = ["FORMATS", "ExchangeError", "export", "import_checkpoint", "read_exported"]

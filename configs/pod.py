"""Language models of 1, 8 and 70 billion parameters for slices of TPU chips, to run there or to compile for here.

    python -m experiments.compile_for --config=configs/pod.py --topology=v5p:8x8x8 --size=8e9
    python -m experiments.run --config=configs/pod.py --workdir=gs://bucket/pod --mesh=data=-1,fsdp=64

bfloat16, layers recomputed in the backward pass, sequences of 2,048 tokens, and widths, heads and vocabulary that are
multiples of the chips' tile sizes. The data is C4 through TFDS, which has to be prepared first. Two million tokens per
step, 20 tokens per parameter.

Cost: a compile takes a minute and less than 2 GiB on two CPU cores. The runs would cost 1.4e20, 8e21 and 6e23 FLOPs; none
of them has been trained. Expected result: the figures of the compiled programs in docs/hardware.md.
"""

from scaling import experiment
from scaling.experiment import chain

# The ladder's rule of depth and width, with heads of 128 dimensions and keys and values shared by several heads.
SHAPES = {1e9: {"width": 2048, "layers": 22, "heads": 16, "kv_heads": 8},
          8e9: {"width": 4096, "layers": 45, "heads": 32, "kv_heads": 8},
          7e10: {"width": 8192, "layers": 102, "heads": 64, "kv_heads": 8}}


def get_config():
    config = experiment.config("transformer")
    config.title, config.metric = "Language models on TPU slices", "bits_per_byte"
    config.family.update({"dtype": "bfloat16", "remat": "full", "scan": True})
    config.data.update({"name": "tfds:c4", "tokenizer": "bpe:32768", "length": 2048, "batch": 1024, "feed": "streamed"})
    config.layout, config.sizes, config.tokens_per_parameter = "fsdp", tuple(SHAPES), 20
    return config


def sweep(config):
    return chain(*(_at(config, size) for size in config.sizes))


def _at(config, size):
    config = config.copy_and_resolve_references()
    config.family.update({k: v for k, v in SHAPES.get(size, {}).items() if config.family[k] is None})
    per_step = config.data.batch * config.data.length
    config.family.size, config.data.tokens = size, -(-int(size * config.tokens_per_parameter) // per_step) * per_step
    return experiment.from_config(config)

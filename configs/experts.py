"""How much do experts help, and does that fade with size? Transformers whose MLP is 1 to 32 experts, on equal data.

    python -m experiments.run --config=configs/experts.py:quick --workdir=runs/experts
    python -m experiments.fit --workdir=runs/experts --form=experts.py --columns=experts=family.experts \\
        --params='params_active - `family.width` * `family.experts`' --output=runs/experts/law

Each token uses one expert (`top_k` is 1), so that all numbers of experts cost the same FLOPs but for the router. All runs
see the same data, and each width has the learning rate of dense models of its ladder (`_ladders.TRANSFORMER`).
"""

from experiments._ladders import TRANSFORMER
from scaling.experiment import chain, grid


def get_config(scale="full"):
    config = TRANSFORMER.config()
    config.title = "Transformers with one to thirty-two experts"
    config.metric, config.prompts, config.tune = "bits_per_byte", ("def ",), 0.0
    config.family.top_k = 1
    config.widths, config.experts, config.seeds = (16, 24, 32, 48, 64), (1, 2, 4, 8, 16, 32), 2
    config.amount = 1_048_576  # tokens
    if scale == "quick":
        config.widths, config.experts, config.seeds, config.amount = (16, 24, 32, 48), (1, 2, 8, 32), 1, 524_288
        config.data.evaluation_tokens = 131_072
    return config


def sweep(config):
    seeds = [config.seed + number for number in range(config.seeds)]
    return chain(*(grid(TRANSFORMER.run(of_experts(config, experts), width, config.amount), {"seed": seeds})
                   for width in config.widths for experts in config.experts))


def of_experts(config, experts):
    """The config with so many experts."""
    sized = config.copy_and_resolve_references()
    sized.family.experts = experts
    return sized

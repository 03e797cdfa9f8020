"""How much do experts help, and does that fade with size? Transformers whose MLP is 1 to 32 experts, on equal data.

    python -m experiments.run --config=configs/experts.py:quick --workdir=runs/experts
    python -m experiments.fit --workdir=runs/experts --form=experts.py --columns=experts=family.experts \\
        --params='params_active - `family.width` * `family.experts`' --output=runs/experts/law

Each token uses one expert (`top_k` is 1), so that all numbers of experts cost the same FLOPs but for the router. All runs
see the same data. A width has the learning rate of the dense models of its ladder (`_ladders.TRANSFORMER`): in a pilot of
three rates, a factor of 1.7 apart, on 262 thousand bytes, that rate was best in five of six cells (widths 16 and 48; 1, 4
and 32 experts), and 0.6 of it in one. experts.py holds the block "Mixtures of experts" of docs/laws-forms.md and the
imports of that page. N is the number of parameters that a token uses, without those of the router (there is one layer).

Cost of `:quick`: 9 runs in 9 programs; two minutes and a half of one core's processor time, compilation included, beside
other work. With `--config.widths='(16,24,32,48)' --config.experts='(1,2,8,32)'` it has 16 runs, 1.2e12 FLOPs of the models,
which took seven minutes. Of the rest: 60 runs in 30 programs, 1.3e13 FLOPs; not run yet.
Expect of those 16 runs (one seed): at equal FLOPs 8 experts take 2.1 to 3.2% off the bits per byte at every
width, and 32 hardly more than 8 (1.7 to 4.0%), since each sees a 32nd of half a million bytes. The law of all 16 says
N^-0.074 [0.064, 0.084] and about experts^-0.008, and leaves open whether the gain changes with N: c = 0.0005 [-0.0044,
0.0052]. The nine of `:quick` have the same losses, and their law says N^-0.073 [0.054, 0.094] and c = -0.0004 [-0.010,
0.008]: the same finding with wider intervals. docs/sequences.md has the figure.
Samples look like Python from afar, with one expert as with 32.
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
        config.widths, config.experts, config.seeds, config.amount = (16, 24, 48), (1, 8, 32), 1, 524_288
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

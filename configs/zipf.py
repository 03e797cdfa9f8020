"""A law that theory knows: an associative memory of facts whose contexts follow Zipf's law p(rank i) ~ i^-a.

    python -m experiments.run --config=configs/zipf.py --workdir=runs/zipf
    python -m experiments.fit --workdir=runs/zipf --law=power_mean --fix=E=0 --isoflop --compare=chinchilla,kaplan

After the tutorial of Nicolas Zucchet (github.com/NicolasZucchet/Tutorial-scaling-laws); `scaling.data.known.zipf` derives
the theory. The metric is the excess loss, the loss beyond the true distribution on the same facts, so E = 0. Of N
parameters and D facts the scarcer one counts: the excess is the larger one of A N^-(a-1) and B D^-(1-1/a), with soft
edges. So where compute C = 4 N D is spent best, N* ~ C^(1/(1+a)) and the excess falls as C^-((a-1)/(a+1)).

The sweep has slices of equal compute: seven widths each, a factor of 8, with three learning rates around the rates that
were best in a pilot. `:1.2` has a = 1.2, and so on.

Cost: 105 runs and four more that the tuning asks for, 4e12 FLOPs of the models, nine CPU minutes.
Expect, at a = 1.5: by the power mean of the two terms alpha 0.507, beta 0.318, N* ~ C^0.385 and an excess ~ C^-0.196
(q = 2.2, residuals 1.4%), where theory has 0.5, 0.333, 0.4 and -0.2; by the best sizes of the slices N* ~ C^0.390,
90% [0.370, 0.407]. One seed scatters by 2 to 3%, and beta is 4.6% off (9% without the two smallest slices). The additive
law fits the same cells with residuals of 4.1%, and says alpha 0.617 and beta 0.292.
"""

from scaling import experiment
from scaling.experiment import grid

WIDTHS = [round(2 ** (k / 2)) for k in range(4, 27)]  # 4, 6, 8, 11, 16, ... 8192


def get_config(exponent="1.5"):
    config = experiment.config("associative")
    config.title = f"An associative memory of facts with Zipf's exponent {exponent}"
    config.metric = "excess"
    config.data.update({"name": f"zipf:{exponent},contexts=0,answers=256", "length": 1, "batch": 64,
                        "evaluation_tokens": 2**17})
    config.optim.update({"name": "adamw", "weight_decay": 0.0, "beta2": 0.99, "clip": 0.0, "schedule": "cosine",
                         "warmup": 0, "floor": 0.1, "parametrization": "standard"})
    config.budgets = tuple(1_638_400 * 3**i for i in range(5))  # width times facts, and so compute, of each slice
    config.width, config.growth = 66, 0.4  # in the middle of the first slice, and the power of compute of the others
    config.rates = (0.625, 1.0, 1.6)  # times `rate`
    return config


def rate(width, facts):
    """The best learning rate of a pilot at a = 1.5."""
    return 0.12 * (facts / 25_600) ** -0.25 * (width / 64) ** -0.2


def cells(config):
    """(width, facts) of every cell: widths around the middle of its slice."""
    found = []
    for budget in config.budgets:
        middle = config.width * (budget / config.budgets[0]) ** config.growth
        nearest = min(range(len(WIDTHS)), key=lambda i, middle=middle: abs(WIDTHS[i] / middle - 1))
        for width in WIDTHS[max(0, nearest - 3):nearest + 4]:
            found.append((width, max(1, round(budget / width / config.data.batch)) * config.data.batch))
    return found


def sweep(config):
    base, runs = experiment.from_config(config), []
    base = base.replace({"data.unique_tokens": max(facts for _, facts in cells(config))})
    for width, facts in cells(config):
        rates = [float(f"{factor * rate(width, facts):.3g}") for factor in config.rates]
        family = experiment.family_at(config, width * base.family.predicted)
        runs += grid(base, {"family": [family], "data.tokens": [facts], "optim.learning_rate": rates})
    return runs

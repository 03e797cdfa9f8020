"""The loss falls as a power of the number of parameters."""

import numpy as np

from experiments.claims import _recipes
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics
from scaling.results.metrics import find_metric

# widths, tokens or images, seeds
SIZES = {"5m": {"transformer": ((8, 16, 32, 64), 500_000, 3), "vae": ((8, 16, 32, 56), 8_000, 3),
                "gan": ((8, 12, 16, 24), 8_000, 6)},
         "30m": {"transformer": ((8, 16, 24, 32, 48, 64, 96), 2_000_000, 3),
                 "vae": ((8, 12, 16, 24, 32, 48, 72), 32_000, 3), "gan": ((8, 12, 16, 24, 32, 48), 16_000, 6)},
         "2h": {"transformer": ((8, 16, 32, 64, 128), 8_000_000, 3), "vae": ((8, 16, 32, 64, 96), 128_000, 3),
                "gan": ((8, 12, 16, 24, 32, 48), 64_000, 8)},
         "gpu": {"transformer": ((32, 64, 128, 256, 512), 40_000_000, 3), "vae": ((16, 32, 64, 128, 256), 2_000_000, 3),
                 "gan": ((16, 24, 32, 48, 64, 96), 500_000, 8)}}


def parts(budget):
    found = {}
    for family, (widths, amount, seeds) in SIZES[budget].items():
        recipe = getattr(_recipes, family)
        runs = [recipe(width, amount, seed) for width in widths for seed in range(seeds)]
        found[family] = Part(runs, _recipes.METRICS[family])
    return found


def analyse(name: str, part: Trained) -> Finding:
    runs, metric = part.runs, _recipes.METRICS[name]
    size, loss = np.log(runs["params_non_embedding"]), np.log(runs[metric])
    falls = statistics.slope(size, -loss)
    means = runs.groupby("params_non_embedding")[metric].mean()
    line = np.exp(np.log(means).mean() - falls.value * (np.log(means.index) - np.log(means.index).to_numpy().mean()))
    sizes = list(means.index)
    panel = Panel("parameters", find_metric(metric).label, log_y=True, lines=[
        Line("measured", sizes, list(means)), Line(f"N^{-falls.value:.3f}", sizes, list(line), dots=False)])
    return Finding({"distance" if name == "gan" else "exponent": falls}, panel)


CLAIM = Claim(
    id="size", statement="The loss falls as a power of the number of parameters.",
    source="Kaplan et al. 2020, arXiv:2001.08361, equation 1.1",
    published={"transformer": "N^-0.076", "vae": "none was published", "gan": "FID ~ C^-0.456 (GAT, arXiv:2509.24935)"},
    rules={"exponent": Criterion("the exponent by which the loss falls in N", low=0.02,
                            why="0.02 is a quarter of what was published; less would be no trend that anyone could use."),
           "distance": Criterion("the exponent by which the Fréchet distance falls in N", low=0.1,
                                 why="0.1 is about a quarter of what was published for compute.")},
    parts=parts, analyse=analyse,
    cost={"5m": "12 runs of a Transformer, 12 of a VAE, 24 of a GAN", "30m": "21 runs, 21, and 36",
          "2h": "15 runs, 15, and 48", "gpu": "15 runs, 15, and 48, of up to 3 million parameters"},
    more="With more data, N limits the loss more, and its exponent is larger.")

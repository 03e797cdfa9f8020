"""How a VAE scales: bits per dimension of rendered letters against size and data, and a forecast ten times further.

    python -m experiments.run --config=configs/vae_scaling.py --workdir=runs/vae
    python -m experiments.run --config=configs/vae_scaling.py:quick --workdir=runs/vae-quick

The sweep has hierarchical token VAEs of three blocks, whose width grows. The batch grows with the square root of the
amount of data, and one base rate serves all runs by a rule, which a pilot gave (docs/recipes.md). The cells form a
triangle, so that every amount of data ends at about the same compute, and have more seeds where runs are short. Six
laws are scored on held-out runs, and "bounded" forecasts a run of ten times the compute of the largest fitted one
before that run is trained. The negative ELBO is fitted, and the distortion beside it. `:quick` fits runs of a third of the
compute, with a batch of 12 throughout, and `:rates` is its pilot.

Cost: two CPU cores, about five minutes for `:quick` (61 runs in 5 programs, 1.8e12 FLOPs of the models) and 25 for the
rest (144 runs in 28 programs, 1.0e13 FLOPs), which was not run yet.
Expect of `:quick`: the bound falls at every step in N and in D, from 1.15 to 0.99 bits per dimension, and one seed
scatters by 0.9%. In ten studies with fresh seeds (--config.seed=330, 340, ... 420) the target was observed +2.12, -0.11,
-1.76, -1.66, -3.43, -3.52, -1.08, -0.59, +0.13 and -0.91% beside its forecast. All ten lie inside their 90% intervals,
which reach 2.4 to 14% to each side, 5.8% in the middle; the median size of the errors is 1.4%, and their mean is -1.1%.
Three studies before them (seeds 300, 310 and 320), with a target of 9.5 times the compute, had +0.67, +0.09 and +0.18%.

An earlier design, with ladders whose depth jumps, four rates a size and an additive law, missed by 5.6%, outside of its
interval.
"""

from experiments._ladders import QUICK_VAE, VAE, sweep_and_target

CORNERS = ((12, 4_000), (48, 4_000), (12, 32_000), (32, 14_000))  # widths and images of a pilot


def get_config(scale="full"):
    config = VAE.config()
    config.quick, config.corners = False, ()
    config.title = "Hierarchical VAEs on rendered letters"
    config.metric, config.beside, config.law = "bits_per_dim", ("distortion",), "bounded"
    config.widths = (8, 12, 16, 24, 32, 48, 64)
    config.amounts = (8_000, 16_000, 32_000, 64_000, 128_000, 256_000)  # images
    config.widest = (64, 48, 32, 24, 16, 12)  # the largest width of each amount
    config.seeds = (8, 6, 4, 4, 3, 3)  # of each amount; they count from config.seed
    config.target_width, config.target_amount = 72, 125_000
    if scale in ("quick", "rates"):
        config.quick = True
        config.corners = CORNERS if scale == "rates" else ()
        config.amounts = (4_000, 6_000, 9_000, 14_000, 21_000, 32_000)
        config.widths, config.widest = (12, 20, 32, 48), (48, 48, 32, 32, 20, 12)
        config.seeds = (5, 4, 3, 3, 2, 2)
        config.target_width, config.target_amount = 40, 96_000
    return config


sweep, target = sweep_and_target(VAE, QUICK_VAE)

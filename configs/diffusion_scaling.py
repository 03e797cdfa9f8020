"""How a diffusion model scales: a bound in bits per dimension of rendered letters against size and data, and a forecast.

    python -m experiments.run --config=configs/diffusion_scaling.py --workdir=runs/diffusion
    python -m experiments.run --config=configs/diffusion_scaling.py:quick --workdir=runs/diffusion-quick

The sweep has diffusion models of two layers over patch tokens, whose width grows. The batch grows with the square root of
the amount of data, and one base rate serves all runs by a rule, which a pilot gave (docs/recipes.md). The cells form a
triangle, so that every amount of data ends at about the same compute, and have more seeds where runs are short. Six laws
are scored on held-out runs, and "bounded" forecasts a run of ten times the compute of the largest fitted one before that
run is trained. The variational bound is fitted, in the units of the VAE's (configs/vae_scaling.py). `:quick` fits runs of a
third of the compute, with a batch of 12 throughout, and `:rates` is its pilot. `--config.data.samples=4096` also judges
the samples of every run, as those of the GAN are; a sample costs 31 forward passes.

Cost: `:quick` took 6 minutes 28 seconds of one CPU core, compilation included (61 runs in 5 programs, 1.2e12 FLOPs of the
models, and 1.7e12 more for evaluations and what is computed twice). The rest was not run yet.
Expect of `:quick`: the bound falls at every step in N and in D, from 1.82 bits per dimension (width 12, 4,000 images) to
1.18 (width 12, 32,000 images) and 1.36 (width 48, 6,000 images), and seeds of one cell scatter by 1 to 4%. The forecast
for width 40 on 96,000 images, at 10.4 times the compute, was 0.937 [0.826, 1.056], and 0.968 was observed. The law's
parameters are not determined: 78% of the bootstrap's fits fail, and the best size grows as C^0.86 [0.55, 0.92]. At so
little compute a VAE has the better bound, 1.06 at 2.0e10 FLOPs, where diffusion has 1.2. Samples of the smallest model are
specks and strokes. Those of the target, drawn from the same noise, have cleaner strokes, and a few of 32 are letters.
"""

from experiments._ladders import DIFFUSION, QUICK_DIFFUSION, sweep_and_target

CORNERS = ((12, 4_000), (48, 4_000), (12, 32_000), (32, 14_000))  # widths and images of a pilot


def get_config(scale="full"):
    config = DIFFUSION.config()
    config.quick, config.corners = False, ()
    config.title = "Diffusion models on rendered letters"
    config.metric, config.law = "bits_per_dim", "bounded"
    config.widths = (12, 16, 24, 32, 48, 64)
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


sweep, target = sweep_and_target(DIFFUSION, QUICK_DIFFUSION)

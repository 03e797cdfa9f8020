"""How a tokenizer of images scales: the distortion of rendered letters at a fixed rate, and a forecast.

    python -m experiments.run --config=configs/fsq_scaling.py --workdir=runs/fsq
    python -m experiments.run --config=configs/fsq_scaling.py:quick --workdir=runs/fsq-quick

The sweep has autoencoders with finite scalar quantisation (Mentzer et al. 2309.15505), one block for the encoder and one
for the decoder, whose width grows. An image is 16 tokens of 125 codes, 0.435 bits per dimension. The batch grows with the
square root of the amount of data, and one base rate serves all runs by the rule of the VAE (docs/recipes.md). The cells
form a triangle, so that every amount of data ends at about the same compute, and have more seeds where runs are short. Six
laws are scored on held-out runs, and "bounded" forecasts a run of ten times the compute of the largest fitted one before
that run is trained. The distortion is fitted, in bits per dimension, and the mean squared error beside it. Records also
have the bound on the bits of an image and how many codes are used. `:quick` fits runs of a quarter of the compute, with a
batch of 12 throughout, and `:rates` is its pilot. `--config.family.quantiser=vq` learns a codebook in place of rounding.

Cost: `:quick` took 2 minutes 44 seconds of one CPU core, compilation included (39 runs in 5 programs, 4.2e11 FLOPs of the
models). The rest was not run yet.
Expect of `:quick`: the distortion falls from 1.05 bits per dimension (width 12, 3,000 images) to 0.86 (width 12, 17,000
images) and 0.917 (width 32, 4,200 images), and the mean squared error from 0.020 to 0.013. The forecast for width 32 on
50,000 images, at 9.7 times the compute, was 0.717 [0.635, 0.818], and 0.755 was observed, 5% above. All 125 codes are used
there, with a perplexity of 73. alpha (0.08) and beta (0.37) are hardly determined by so few sizes. Reconstructions of the
target are letters that a person reads, with blurred strokes; those of the smallest widths are blots for m, w and g. The
bound of the target is 1.19, where a VAE of width 24 had 1.06 with fewer FLOPs (2.0e10): its latents have a prior, and codes
that are all as likely have none (configs/coded_scaling.py adds one).
"""

from experiments._ladders import FSQ, QUICK_FSQ, sweep_and_target

CORNERS = ((12, 4_000), (48, 4_000), (12, 32_000), (32, 14_000))  # widths and images of a pilot


def get_config(scale="full"):
    config = FSQ.config()
    config.quick, config.corners = False, ()
    config.title = "Tokenizers of rendered letters"
    config.metric, config.beside, config.law = "distortion", ("mse",), "bounded"
    config.widths = (12, 16, 24, 32, 48, 64)
    config.amounts = (8_000, 16_000, 32_000, 64_000, 128_000, 256_000)  # images
    config.widest = (64, 48, 32, 24, 16, 12)  # the largest width of each amount
    config.seeds = (8, 6, 4, 4, 3, 3)  # of each amount; they count from config.seed
    config.target_width, config.target_amount = 72, 125_000
    if scale in ("quick", "rates"):
        config.quick = True
        config.corners = CORNERS if scale == "rates" else ()
        config.amounts = (3_000, 4_200, 6_000, 8_500, 12_000, 17_000)
        config.widths, config.widest = (12, 16, 24, 32), (32, 32, 24, 24, 16, 12)
        config.seeds = (3, 2, 2, 2, 2, 2)
        config.target_width, config.target_amount = 32, 50_000
    return config


sweep, target = sweep_and_target(FSQ, QUICK_FSQ)

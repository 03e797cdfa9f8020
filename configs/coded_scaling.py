"""How a prior over the codes of images scales: bits of rendered letters given their character, and a forecast.

    python -m experiments.run --config=configs/coded_scaling.py --workdir=runs/coded
    python -m experiments.run --config=configs/coded_scaling.py:quick --workdir=runs/coded-quick

One tokenizer (configs/fsq_scaling.py, width 32, 32,000 images) is trained first, and all runs stand on it
(docs/finetuning.md). They are Transformers of two layers over its 16 codes of an image, whose width grows. A run reads the
character as its first token, and C has the forward pass of the tokenizer's encoder. The batch is 12 throughout, and one
base rate serves all runs by a rule that a pilot gave (seed 900, three corners). The cells form a triangle, as in the study
of tokenizers. What is fitted is the bound on the bits of an image, of which the distortion is the same in all runs, and the
rate beside it. `--config.data.samples=1024` also judges samples, and `--config.tokenizer.family.code_levels=8,5,5,5` has
eight times the codes.

Cost: `:quick` took 3 minutes 16 seconds of one CPU core, compilation included (39 runs after the tokenizer, 6.2e11 FLOPs of
the models). The rest was not run yet.
Expect of `:quick`: the bound falls from 1.087 bits per dimension (width 12, 3,000 images) to 1.044 (width 12, 17,000
images) and 1.036 (width 32, 4,200 images), and the codes of an image from 74 to 61 bits; codes that are all as likely have
111. The forecast for width 32 on 50,000 images, at 8.7 times the compute, was 0.984 [0.962, 0.998], and 0.983 was observed,
48 bits of codes. A VAE had 1.06 for all letters together, without their character. About half of the target's samples are
letters that a person reads, and strokes and specks remain in the others. A classifier of characters that is right on 90% of
256 real images is right on 64% of their reconstructions, on 24% of the target's samples, and on 32% at temperature 0.7:
first the few codes blur letters, and then short training of a small prior leaves more.
"""

from experiments._ladders import CODED, sweep_and_target

CORNERS = ((12, 3_000), (32, 3_000), (12, 17_000))  # widths and images of a pilot


def get_config(scale="full"):
    config = CODED.config()
    config.quick, config.corners = False, ()
    config.title = "Priors over the codes of rendered letters"
    config.metric, config.beside, config.law = "bits_per_dim", ("rate",), "bounded"
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


sweep, target = sweep_and_target(CODED)

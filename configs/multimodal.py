"""How one model of captions and images scales: bits of rendered digits and of their names, alone and given each other.

    python -m experiments.run --config=configs/multimodal.py --workdir=runs/multimodal
    python -m experiments.run --config=configs/multimodal.py:quick --workdir=runs/multimodal-quick
    python -m experiments.generate --workdir=runs/multimodal-quick --caption='DIGIT SEVEN, DejaVu'
    python -m experiments.generate --workdir=runs/multimodal-quick --image=7

One tokenizer is trained first (docs/finetuning.md), and all runs stand on it: decoders of two layers over the 24 bytes of a
caption, such as "DIGIT SEVEN, DejaVu Sans", and the 16 codes of its image. Half of the training examples have the caption
first, and half the image. The width grows, the batch is 12 throughout, and one base rate serves all runs by a rule that a
pilot on letters gave (docs/recipes.md). The cells form a triangle. What is fitted is the loss, nats per token of both
together in the mean of the two orders, and the losses of captions and images beside it. `--config.data.samples=512` also
judges samples, and whether they agree with their captions.

`:patches`, `:patches-quick` and `:patches-rates` are the rival of early fusion: the same models read raw patches in place
of codes, so that no tokenizer is trained, and predict the pixels of each patch given those before it. Their losses of
captions and their bits per dimension compare with those of codes, and a page of both studies shows them side by side.
The pilot `:patches-rates` (four minutes) has its best rates at 0.6 to 1.0 times those of codes, in bits per dimension and
in captions alike, so that both share a rule.

Cost: `:quick` took 3 minutes 42 seconds of one CPU core, compilation included (19 runs after the tokenizer, 3.9e11 FLOPs of
the models). The full studies were not run yet.
Expect of `:quick`: the loss falls from 1.104 nats per token (width 12, 2,000 pairs) to 1.007 (width 12, 8,000 pairs) and
1.015 (width 32, 2,800 pairs). The forecast for width 32 on 16,000 pairs, at 5.7 times the compute, was 0.893 [0.851,
0.933], and 0.857 was observed. It lies below the middle because what the modalities tell of each other comes suddenly:
width 12 has nothing of it on any amount of data (0.05 bits at most, with a standard error of 0.04), width 16 has 0.3 bits
on 5,600 pairs, width 24 0.7 bits on 4,000 and width 32 0.7 bits on 2,800, and the target has 2.44 (0.09) bits of a caption
about its image and 1.68 (0.06) the other way. Ten digits that are as likely have 3.3 bits. So the right caption saves the
target 2.44 of 44 bits of codes, while captions alone cost about 6 bits in all models. The target names 57% of images right
(width 12: 10%), and all of the first eight. A classifier that is right on 99% of 256 real images is right on 86% of their
reconstructions, on 42% of the target's samples by their captions, and on 59% at temperature 0.7: a person reads most of
those.
"""

from experiments._ladders import MULTIMODAL, sweep_and_target

CORNERS = ((12, 3_000), (32, 3_000), (12, 17_000))  # widths and images of a pilot


def get_config(scale="full"):
    early = scale in ("patches", "patches-quick", "patches-rates")
    size = scale.removeprefix("patches-") if early else scale
    config = MULTIMODAL.config()
    config.quick, config.corners = False, ()
    config.title = "One model of rendered digits and their names"
    config.metric, config.beside, config.law = "loss", ("loss_text", "loss_image", "loss_image_given_text"), "bounded"
    config.widths = (12, 16, 24, 32, 48, 64)
    config.amounts = (8_000, 16_000, 32_000, 64_000, 128_000, 256_000)  # images
    config.widest = (64, 48, 32, 24, 16, 12)  # the largest width of each amount
    config.seeds = (8, 6, 4, 4, 3, 3)  # of each amount; they count from config.seed
    config.target_width, config.target_amount = 72, 125_000
    if early:
        config.title, config.family.images = "One model of patches of rendered digits and their names", "patches"
        config.metric = "bits_per_dim"
        config.beside = ("loss_text", "loss_text_given_image", "bits_per_dim_given_text")
    if size in ("quick", "rates"):
        config.quick = True
        config.corners = CORNERS if size == "rates" else ()
        config.tokenizer_amount = 17_000
        config.amounts = (2_000, 2_800, 4_000, 5_600, 8_000)
        config.widths, config.widest = (12, 16, 24, 32), (32, 32, 24, 16, 12)
        config.seeds = (2, 1, 1, 1, 1)
        config.target_width, config.target_amount = 32, 16_000
    return config


sweep, target = sweep_and_target(MULTIMODAL)

"""N-gram models of Python code: the baseline of everything that learns, on 10 thousand to 10 million bytes.

    python -m experiments.run --config=configs/ngram.py --workdir=runs/ngram

N is the number of counts that a model stores, and D the bytes that it counts. Each cell has three orders around the rule of
the ladder, log10(N) + 1/2, and takes the best one, as other families take the best learning rate. The target counts twice
the data of the largest run. `:absolute` and `:kneser_ney` name other smoothings than modified Kneser-Ney.

Cost: 72 runs and a target, 1.1e9 additions, about a quarter of an hour of one core. Counting takes 3 microseconds for
each byte at order 6: half a minute and 1 GB of memory for 10 million bytes.
Expect: bits per byte of models that store up to 3 million counts, on 131,072 bytes of other files (standard error 0.03 to
0.04, and 0.05 to 0.06 with absolute discounting; of the seven amounts of data below the orders 2 to 8 were tried):

    bytes counted         10 k   31 k   102 k  307 k  1.0 M  3.1 M  10 M
    modified, order 4     3.03   2.71   2.44   2.28   2.15   2.10   2.06
    modified, order 6     2.99   2.64   2.32   2.11   1.93   1.83   1.76
    modified, order 8     2.98   2.63   2.30   2.07   1.88   1.77   1.67
    absolute, best        3.53   3.08   2.68   2.43   2.19   2.07   1.96
    its order             4      4      4      5      5      5      6

Longer contexts never hurt under modified Kneser-Ney, and do under absolute discounting. Where N is small the best order
is lower: on 1 million bytes 4, 5 and 6 for 3, 30 and 300 thousand counts, with 2.86, 2.22 and 1.95 bits per byte (on the
first half of the evaluation set).
"""

from scaling import experiment
from scaling.experiment import grid


def get_config(smoothing="modified"):
    config = experiment.config("ngram")
    config.title = f"N-gram models of the Python standard library ({smoothing} smoothing)"
    config.metric, config.prompts = "bits_per_byte", ("def ", "class ")
    config.family.smoothing = smoothing
    config.data.update({"length": 256, "batch": 8, "evaluation_tokens": 131_072})
    config.counts = (3_000, 30_000, 300_000, 3_000_000)  # N
    config.orders = (-1, 0, 1)  # beside the rule of the ladder; the best order of each N and D is taken
    config.tokens = (10_240, 30_720, 102_400, 307_200, 1_024_000, 3_072_000, 10_240_000)
    config.target_counts, config.target_tokens = 3_000_000, 20_480_000
    return config


def sweep(config):
    base, runs = experiment.from_config(config), []
    for counts in config.counts:
        family = experiment.family_at(config, counts)
        tokens = [n for n in config.tokens if counts <= 10 * n]  # there are no more n-grams
        orders = [family.order + more for more in config.orders]
        runs += grid(base, {"family": [family], "family.order": orders, "data.tokens": tokens}) if tokens else []
    return runs


def target(config, learning_rate):
    del learning_rate  # there is none
    family = experiment.family_at(config, config.target_counts)
    return experiment.from_config(config).replace({"family": family, "data.tokens": config.target_tokens})

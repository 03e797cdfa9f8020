"""Which model of text is the best at which size? Six kinds at equal non-embedding parameters on the same bytes.

    at=runs/sequence
    for kind in transformer lstm gru mingru hmm ngram; do
        python -m experiments.run --config=configs/sequence.py:$kind-quick --workdir=$at/$kind
    done
    python -m experiments.report --workdirs=$at/transformer,$at/lstm,$at/gru,$at/mingru,$at/hmm,$at/ngram --output=$at/page

Each kind is a study of its own, whose page has L(N), L(D) and L(C) with fitted exponents and intervals. The last command
writes one page of all of them: the exponents side by side, the losses at about equal N, at about equal D and at equal FLOPs
in one figure each, and the loss by position in the context of the largest models. The n-gram model, which is counted,
is the baseline. Kaplan et al. 2020 (arXiv:2001.08361, figure 7) found that LSTMs stop gaining after about 100 tokens and
fall behind Transformers; Beck et al. 2024 (xLSTM, arXiv:2405.04517) found recurrences ahead at equal compute.

All that descend have two layers and windows of 256 bytes of Python's standard library. All but the hidden Markov model,
which has AdamW, are trained by Muon. `experiments/_sequences.py` has the base rate of each kind, which pilots found,
and the rule that carries it and the batch over amounts of data. `$kind` alone is the full study, with three rates
around the base one, more sizes and data; `--config.factors='(0.25,0.5,1,2,4)'` tries others.

`$kind-wide` has 10 thousand to 1 million parameters on 524 thousand bytes, one seed each, to see where the curves of loss
against N cross. As decided before its runs, a kind is ahead where its loss is lower by 1%, about three times what such a
difference varies between seeds in the claim `recurrence`; two curves cross where one kind is ahead at one end and the other
at the other end. A model stops gaining from context where its loss falls by less than 1% from 96 bytes of it to 224.

Cost of `-quick`: 9 runs of each kind, 6e12 FLOPs of the models; two CPU cores, about ten minutes for all six.
Of `-wide`: 4 runs of each kind, 6e12 FLOPs; three to four minutes of one core for each kind.
Of the full study: an H200 or a day of two cores; 96 runs of each kind, 4e15 FLOPs, most in the largest size.
Expect of `-quick` (one seed; bits per byte of the largest models, 1e5 parameters, on 524 thousand bytes): n-gram 2.07,
GRU 2.23, LSTM 2.26, Transformer 2.32, minGRU 2.36, HMM 2.84. Slopes in log FLOPs are -0.090 [-0.098, -0.083] for the
Transformer, -0.078 for the GRU and the LSTM, -0.067 for the minGRU and -0.038 for the HMM: the Transformer starts last
of the networks, improves the fastest, and passes the minGRU.
Samples have the shape of Python and few of its words: the GRU of 30 thousand parameters writes self.assertEqual( and lines
that end in brackets, the hidden Markov model names and spaces of the right length, and now and then half of a character.
Expect of `-wide`: 2.71, 2.32, 2.18 and 2.11 for the Transformer; 2.62, 2.26, 2.15 and 2.07 for the LSTM; 2.64, 2.36, 2.28
and 2.19 for the minGRU; 2.46, 2.07, 2.02 and 2.02 for n-grams, which hold all of them by then. docs/sequences.md shows
the figure. With so few sizes and 256 to 341 steps the fitted laws have seven warnings and more, and their exponents are
of little worth.
A first trial with AdamW in batches of eight windows (64 to 256 steps) had 2.75 for the Transformer and 2.51 for the
GRU.
"""

from experiments._sequences import KINDS, config_of, sweep
from scaling.fields import ConfigError, nearest

__all__ = ["get_config", "sweep"]

SCALES = {"": ((1e4, 3e4, 1e5, 3e5, 1e6), (262_144, 1_048_576, 4_194_304, 16_777_216)),  # sizes, tokens
          "quick": ((1e4, 3e4, 1e5), (131_072, 262_144, 524_288)),
          "wide": ((1e4, 1e5, 3e5, 1e6), (524_288,))}


def get_config(variant="transformer"):
    kind, _, scale = variant.partition("-")
    if kind not in KINDS or scale not in SCALES:
        known = ["-".join(filter(None, (kind, scale))) for kind in KINDS for scale in SCALES]
        raise ConfigError(f"--config=configs/sequence.py:{variant} is no kind of sequence model; {nearest(variant, known)}")
    config = config_of(kind)
    config.title = f"Sequence models on the Python standard library: {kind}"
    config.metric, config.prompts, config.tune = "bits_per_byte", ("def ",), 0.0
    config.sizes, config.tokens = SCALES[scale]
    config.factors, config.seeds = (1.0,) if scale else (0.5, 1.0, 2.0), 1
    return config

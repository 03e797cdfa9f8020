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

All that descend have AdamW, two layers, windows of 256 bytes of Python's standard library, and batches of eight windows.
`experiments/_sequences.py` has the base rate of each kind, which pilots of 64 and 128 steps found, and the rule that
carries it over amounts of data. `$kind` alone is the full study, with three rates around the base one, more sizes and data;
`--config.factors='(0.25,0.5,1,2,4)'` tries others.

Cost of `-quick`: 9 runs of each kind, 6e12 FLOPs of the models; two CPU cores, about ten minutes for all six.
Of the full study: an H200 or a day of two cores; 96 runs of each kind, 4e15 FLOPs, most in the largest size.
Expect of `-quick` (one seed; bits per byte of the largest models, 1e5 parameters, on 524,288 bytes): n-gram 2.07, GRU 2.51,
LSTM 2.57, minGRU 2.72, Transformer 2.75, HMM 2.90. The GRU is the best that descends and the Transformer is behind all
three recurrences in all nine cells; it is ahead of the HMM on 524,288 bytes alone. Slopes in log FLOPs are -0.080 [-0.099,
-0.061] for the Transformer, -0.081 for the LSTM, -0.087 for the GRU, -0.068 for the minGRU and -0.048 for the HMM: at these
sizes no curves cross but those with the HMM. No model gains from context beyond 32 bytes. The runs are short (64 to 256
steps), so that the fitted laws are of little worth.
"""

from experiments._sequences import KINDS, config_of, run_of
from scaling.experiment import chain, grid
from scaling.fields import ConfigError, nearest


def get_config(variant="transformer"):
    kind, _, scale = variant.partition("-")
    if kind not in KINDS or scale not in ("", "quick"):
        known = [f"{kind}{scale}" for kind in KINDS for scale in ("", "-quick")]
        raise ConfigError(f"--config=configs/sequence.py:{variant} is no kind of sequence model; {nearest(variant, known)}")
    config = config_of(kind)
    config.title = f"Sequence models on the Python standard library: {kind}"
    config.metric, config.prompts, config.tune = "bits_per_byte", ("def ",), 0.0
    config.sizes, config.tokens = (1e4, 3e4, 1e5, 3e5, 1e6), (262_144, 1_048_576, 4_194_304, 16_777_216)
    config.factors, config.seeds = (0.5, 1.0, 2.0), 1
    if scale:
        config.sizes, config.tokens, config.factors = (1e4, 3e4, 1e5), (131_072, 262_144, 524_288), (1.0,)
    return config


def sweep(config):
    cells = [run_of(config, size, tokens, config.seed) for size in config.sizes for tokens in config.tokens]
    seeds = [config.seed + number for number in range(config.seeds)]
    if not cells[0].family.players():  # counts have neither rates nor seeds
        return cells
    return chain(*(grid(cell, {"optim.learning_rate": [cell.optim.learning_rate * factor for factor in config.factors],
                               "seed": seeds}) for cell in cells))

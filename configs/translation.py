"""How translation improves with data: bits per byte of German help pages, given the English ones, against pairs seen.

    apt install libreoffice-help-en-us libreoffice-help-de
    python -m experiments.run --config=configs/translation.py --workdir=runs/translation
    python -m experiments.run --config=configs/translation.py:postfix --workdir=runs/postfix
    python -m experiments.run --config=configs/translation.py:docstrings --workdir=runs/docstrings
    python -m experiments.run --config=configs/translation.py:quick --workdir=runs/translation-quick
    python -m experiments.run --config=configs/translation.py:postfix-quick --workdir=runs/postfix-quick    # or ...
    python -m experiments.generate --workdir=runs/translation-quick --source='Choose Insert - Table.' --beam=4

The sweep has encoder-decoder Transformers of three sizes, with two layers in each half, on five amounts of LibreOffice's
help, `lohelp/en-de`, with three learning rates each. There are few pairs, so runs go through theirs four times, which costs
little beside fresh data (Muennighoff et al. 2305.16264), and have dropout and smoothed labels. D counts pairs with repeats,
and grows in proportion to the unique ones. The question is the exponent of loss - E ~ D^-alpha at every size, which for
translation has been found between 0.2 and 0.5 (Gordon et al. 2021, "Data and parameter scaling laws for neural machine
translation"). The target, of three times the parameters and one and a half times the pairs, is forecast before it is
trained. BLEU and chrF of greedy targets are fitted beside the loss: they rise late, so their laws say less. Run :postfix
first, since it needs no package.

`:postfix` has an exact task with fresh pairs without end, expressions such as a*(b+c) to a b c + *. Its entropy is zero, so
E should be found near 0, and the share of exact matches says where a model has understood the rule.

`:docstrings` reads a function without its name and docstring, in 192 tokens at most, and writes the first sentence of the
docstring. The functions are those of the packages that are installed here (docstrings/environment).

`:quick`, `:postfix-quick` and `:docstrings-quick` have two sizes, three amounts of fresh pairs, Muon at the rates of a
pilot, and no target. The rates of docstrings are those of translation. Any two languages of the help serve:
`--config.data.name=lohelp/en-zh` (apt install libreoffice-help-zh-cn) needs no other change.

Cost: `:quick` took 80 seconds of one core's processor time (6 runs in 2 programs, 8.7e11 FLOPs of the models), and
`:postfix-quick` 66 (1.9e11 FLOPs). Of `:docstrings-quick` (1.3e12 FLOPs) its three smaller runs were trained, two
minutes; before the first one, 160 seconds go to reading 10 thousand files, whose functions are kept. As planned, two
CPU cores take about two hours for all of en-de (45 runs and the target, 2.2e14 FLOPs) and 20 minutes for :postfix (46
runs, 2.4e13 FLOPs).
Expect of `:quick` (en-de): bits per byte fall at every step in N and in D, from 2.35 (2,048 pairs) to 2.12 (8,192) with
20 thousand parameters and from 2.25 to 1.97 with 56 thousand, and BLEU rises from 0.6 to 2.4. What the models write is
German in its words and endings and no translation: of "To Remove the Number From a Paragraph in an Ordered List" the
larger one makes "Sie können Sie die Eigenschaften einfügen einfügen".
Expect of `:postfix-quick`: from 1.26 to 0.22 and from 0.91 to 0.07 bits per byte (standard error 0.004 to 0.01); 50% and
75% of the expressions are right to the end after 8,192 pairs, with a BLEU of 73 and 89. Short ones such as m/(j*x) are
right; long ones have all operands in order and two operators swapped.
Expect of `:docstrings-quick` with 20 thousand parameters: 2.53, 2.41 and 2.33 bits per byte and a BLEU of 0.2.
Whatever the function, the model writes "Returns the one of the one.": it has learned how docstrings begin and end.
Expect of `:quick` on en-zh: bits per byte fall at every step in N and in D, from 2.39 (2,048 pairs) to 2.06 (8,192)
with 20 thousand parameters and from 2.29 to 1.90 with 56 thousand, and BLEU by sacrebleu's rules for Chinese rises from
0.6 to 7.7 (0.9). The largest model translates "Choose Insert - Table." into 选择「插入 - 目录」。, which is Chinese and
says table of contents; longer sentences lose their meaning. The claim `translation` has what such runs say of
exponents, on en-de and on postfix; laws of six runs, which the page draws, are of no worth.
Expect of the full studies (not run yet): of en-de, a loss that falls at every step in D and, from the second amount on, in
N. Of postfix, a loss that falls from 0.8 to below 0.1 bits per byte.
"""

from experiments._variants import kind_and_quick
from scaling import experiment
from scaling.experiment import chain, grid


def get_config(task="translation"):
    task, quick = kind_and_quick("translation", task, ("translation", "postfix", "docstrings"))
    config = experiment.config("seq2seq")
    config.title = "Encoder-decoder Transformers that translate English help pages into German"
    config.metric, config.beside = "bits_per_byte", ("bleu", "chrf")
    config.data.update({"name": "lohelp/en-de", "tokenizer": "bpe:2048", "source_length": 64, "length": 64, "batch": 16,
                        "evaluation_examples": 2048, "samples": 512})
    config.family.update({"layers": 2, "dropout": 0.1, "label_smoothing": 0.1, "tied": True})
    config.sizes = (5e4, 1.5e5, 5e5)
    config.pairs, config.epochs = (1536, 2560, 4096, 6656, 10_752), 4  # different pairs, and how often each is seen
    config.unique = 0  # different pairs of all runs, if their number does not go with the amount of data
    config.rates = (2e-3, 4e-3, 8e-3)
    config.target_size, config.target_pairs = 1.5e6, 16_384
    if task == "postfix":
        config.title = "Encoder-decoder Transformers that write expressions in postfix form"
        config.beside = ("exact",)
        config.data.update({"name": "postfix", "tokenizer": "bytes", "source_length": 32, "length": 32})
        config.family.update({"dropout": 0.0, "label_smoothing": 0.0, "tied": False})
        config.sizes = (2e4, 5e4, 1.5e5)
        config.pairs, config.epochs = (6144, 10_240, 16_384, 26_624, 43_008), 1
        config.target_size, config.target_pairs = 3e5, 73_728
    if task == "docstrings":
        config.title = "Encoder-decoder Transformers that say in a sentence what a Python function does"
        config.data.update({"name": "docstrings/environment", "source_length": 192})
        config.pairs, config.target_pairs = (1024, 1792, 3072, 5120), 8192  # of 11,773 that are short enough
    if quick:  # at the rates that pilots of experiments/claims/translation.py found
        config.data.update({"batch": 4, "evaluation_examples": 1024, "samples": 256})
        config.family.update({"dropout": 0.0, "label_smoothing": 0.0, "tied": False, "head_dim": 16})
        config.optim.update({"name": "muon", "warmup": 20})
        config.sizes, config.pairs, config.epochs, config.rates = (2e4, 5e4), (2048, 4096, 8192), 1, (5.5e-3,)
        config.unique = 8192  # so that one program trains all runs of a size
        config.target_size = 0.0  # too little to forecast from
        if task != "postfix":
            config.data.tokenizer, config.optim.table_rate, config.rates = "bpe:1024", 8.0, (7.5e-3,)
    return config


def sweep(config):
    base = experiment.from_config(config)
    return chain(*(grid(of_size(config, base, size, pairs), {"optim.learning_rate": list(config.rates)})
                   for size in config.sizes for pairs in config.pairs))


def target(config, learning_rate):
    if not config.target_size:
        return None
    base = experiment.from_config(config).replace({"optim.learning_rate": learning_rate})
    return of_size(config, base, config.target_size, config.target_pairs)


def of_size(config, base, size, pairs):
    """The experiment of a size of the ladder on so many different pairs."""
    return base.replace({"family": experiment.family_at(config, size), "data.unique_examples": config.unique or pairs,
                         "data.examples": config.epochs * pairs})

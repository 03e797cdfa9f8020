"""Music and sound as sequences: folk tunes in ABC notation, the same tunes as tones, and spoken numbers.

    python -m experiments.run --config=configs/music.py:quick --workdir=runs/music
    python -m experiments.run --config=configs/music.py:audio-quick --workdir=runs/audio
    python -m experiments.run --config=configs/music.py:speech-gru-quick --workdir=runs/speech
    python -m experiments.generate --workdir=runs/audio --samples=4 --tokens=16000 --output=tones.wav

A variant is `abc`, `audio` or `speech`, then perhaps a kind of configs/sequence.py (`-transformer` where none is said,
`-gru`, `-lstm`, `-mingru`, `-hmm`, `-ngram`), and perhaps `-quick`; `quick` is `abc-quick`. `abc` needs `pip install
'scaling[music]'`, and so does `audio`; `speech` needs `apt-get install espeak-ng`. The models, their rates and the rule
that carries these over amounts of data are those of configs/sequence.py, which pilots on Python code found; none was
made on music. Windows have 512 tokens: of a tune most of it, of sound 64 milliseconds.

Cost of `quick`: 9 runs, 1.6e12 FLOPs of the models; 4 min 32 s of one CPU core on a machine that was busy with other
work. Of `audio-quick`: 9 runs on half of the data, 8e11 FLOPs, about a minute of one CPU
core beside the building of the data, which took 25 s. Of a full study: 60 runs, 8e14 FLOPs, two
days of two cores; none has been trained.
Expect of `quick` (one seed; bits per byte, largest amount of data): 2.47 with 8,484 parameters, 2.33 with 30,196 and
2.08 with 97,664; 2.43 of 6-grams that were counted on the same bytes. The loss falls in every row and column. Of the
tunes of the smallest model 75% are taken by the parser, and of those of the largest 85%, but only 16% and 23% of the
bars fit their metre, where held-out tunes have 97% (standard errors 2 to 4%).
Expect of `audio-quick` (bits per sample): 5.84 (8,484 parameters, 65,536 samples) to 4.51 (97,664 parameters, 262,144
samples), where the frequencies of levels alone give 7.3. The samples are noise
around 450 Hz and not yet tones: 46% (6%) of their pitches are near a note, where 40% are chance and recordings have 99.6%.
docs/sound.md says more. With three sizes and three amounts of data the fitted laws have warnings, and their exponents
are of little worth.
"""

from experiments._sequences import KINDS, config_of, sweep
from scaling.fields import ConfigError, nearest

__all__ = ["get_config", "sweep"]

SOURCES = {"abc": {"data.name": "music/abc", "data.length": 512, "data.batch": 2, "data.samples": 64,
                   "data.evaluation_tokens": 65_536},
           "audio": {"data.name": "music/audio", "data.length": 512, "data.batch": 2, "data.unique_tokens": 2**24},
           "speech": {"data.name": "speech/en", "data.length": 512, "data.batch": 2, "data.unique_tokens": 2**24}}
VARIANTS = [f"{source}{kind}{scale}" for source in SOURCES for kind in ("", *(f"-{kind}" for kind in KINDS))
            for scale in ("", "-quick")]


def get_config(variant="abc"):
    found = "abc-quick" if variant == "quick" else variant
    if found not in VARIANTS:
        raise ConfigError(f"--config=configs/music.py:{variant} is not a variant; {nearest(variant, VARIANTS)}")
    quick = found.endswith("-quick")
    source, _, kind = found.removesuffix("-quick").partition("-")
    config = config_of(kind or "transformer", **SOURCES[source])
    config.title = "Tunes in ABC notation" if source == "abc" else f"Sound as tokens: {config.data.name}"
    config.metric = "bits_per_byte" if source == "abc" else "bits_per_sample"
    config.prompts = ("M:6/8\nL:1/8\nK:G\n", "M:4/4\nL:1/8\nK:D\n") if source == "abc" else ()
    config.tune = 0.0
    config.sizes, config.tokens = (1e4, 3e4, 1e5, 3e5, 1e6), (262_144, 1_048_576, 4_194_304, 16_777_216)
    config.factors, config.seeds = (0.5, 1.0, 2.0), 1
    if quick:
        config.sizes, config.factors, config.data.evaluation_tokens = (1e4, 3e4, 1e5), (1.0,), 65_536
        config.tokens = (131_072, 262_144, 524_288)
        if source != "abc":  # a second is 8,000 samples, and half of the data show the trend
            config.tokens, config.data.evaluation_tokens = (65_536, 131_072, 262_144), 32_768
    return config

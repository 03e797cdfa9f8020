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

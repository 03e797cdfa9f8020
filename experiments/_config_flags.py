"""Parsing the flags of commands that take config files: what is wrong ends in one sentence with the nearest names."""

import sys

from absl import flags

from experiments import _environment
from scaling.fields import ConfigError


def refuse_unknown(argv: list[str]) -> list[str]:
    """Parses flags; a wrong flag, config file or field of a config ends in one sentence with the nearest ones."""
    _environment.outlive_readers()
    names = [name for name in flags.FLAGS if flags.FLAGS[name].flag_type() == "config object"]
    try:
        _environment.insert(argv)
        for name in names:
            _check_config(argv, name)  # its sentences are better than those of the parser
        return flags.FLAGS(argv)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
    except (AttributeError, KeyError) as error:
        print(f"error: {_refusal(argv, names, error)}", file=sys.stderr)
    except flags.Error as error:
        print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _check_config(argv: list[str], flag: str) -> None:
    """Raises a ConfigError, which names the flag, for a config file that cannot be used."""
    if path := config_path(argv, flag):
        from scaling.study import configs  # here, since commands that are given no config do without JAX

        try:
            configs.read_config(path)
        except ConfigError as error:
            raise ConfigError(str(error).replace("--config", f"--{flag}")) from error


def config_path(argv: list[str], flag: str) -> str | None:
    """The value of a flag that takes a config file, or None."""
    words = [word.lstrip("-").partition("=") for word in argv]
    return next((value if equals else after[0] for (name, equals, value), after in zip(words, [*words[1:], ("", "", "")])
                 if name == flag), None)


def _refusal(argv: list[str], names: list[str], error: Exception) -> str:
    """A sentence about an override of a config that ml_collections refused."""
    from scaling.study import configs

    given = [word.lstrip("-").partition("=")[0] for word in argv if word.startswith("-")]
    for flag in names:
        path = config_path(argv, flag)
        overrides = [name.removeprefix(f"{flag}.") for name in given if name.startswith(f"{flag}.")]
        if path is not None and overrides and (sentence := configs.unknown_field(path, overrides)):
            return sentence.replace("--config", f"--{flag}")
    return str(error).strip("'\"")

"""Errors that a user can cause and mend. Commands print them as one sentence, without a traceback."""

import contextlib
import re
import sys
from collections.abc import Callable, Generator

from absl import flags

KEYWORD = re.compile(r"(?<=[\s(])([A-Za-z_]+)=(?![\s=]*=)(<column>)?")  # an argument that a sentence names
KEYWORDS = {"budgets": "isoflop_budgets", "tolerance": "isoflop_tolerance", "keep": "isoflop_keep"}  # other flag's name


def expected() -> tuple[type[Exception], ...]:
    """The kinds of these errors. An `except` clause calls this once there is an error, and their modules load then."""
    from scaling import laws
    from scaling.exchange import ExchangeError
    from scaling.fields import ConfigError, DataError, EvaluateError
    from scaling.results import logs, records
    from scaling.serve.errors import ServeError
    from scaling.store import checkpoint, files
    from scaling.study.prompts import PromptError
    from scaling.study.restored import RestoreError

    return (ConfigError, DataError, EvaluateError, ExchangeError, PromptError, RestoreError, checkpoint.CheckpointError,
            checkpoint.NoCheckpoint, files.DamagedFile, files.DiskFull, files.WorkdirError, laws.LawError, logs.LogError,
            records.RecordError, ServeError)


def in_flags(text: str) -> str:
    """A sentence about keyword arguments as one about this command's flags: where= becomes --where=."""
    def flag(match):
        name = KEYWORDS.get(match[1], match[1])
        if name in flags.FLAGS:
            return f"--{name}="
        return f"--columns={name}=<column>" if match[2] else match[0]
    return KEYWORD.sub(flag, text)


@contextlib.contextmanager
def in_one_sentence(said: Callable[[str], str] = str) -> Generator[None, None, None]:
    """Ends a command that trains nothing: with one sentence, and status 1 for an error that a user can mend, 2 for wrong
    flags and 130 for Ctrl-C. `said` gives the sentence as this command says it."""
    try:
        yield
    except (flags.Error, *expected()) as error:
        print(f"error: {said(str(error))}", file=sys.stderr)
        sys.exit(2 if isinstance(error, flags.Error) else 1)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def ending_well(here: bool = True) -> Generator[None, None, None]:
    """Ends a command that trains: with one sentence and status 1 for an error that a user can mend, with 75 ("start me
    again") for SIGTERM, and with 130 for Ctrl-C. here: whether this process trains, and no cluster."""
    from scaling.devices import exits, hosts
    try:
        yield
    except expected() as error:
        hosts.exit_with_error(error, f"error: {error}", 1)
    except exits.Preempted:
        if hosts.is_lead():
            print("\nstopped by SIGTERM; everything is saved: run the same command again to continue", file=sys.stderr)
        hosts.barrier("stopped")
        if hosts.process_count() == 1 and here:
            exits.exit_now(exits.RESTART)  # without waiting for a program that is being compiled in another thread
        sys.exit(exits.RESTART)
    except KeyboardInterrupt:
        said = "\nstopped; run the same command again to continue"
        if hosts.process_count() == 1 and here:
            exits.exit_now(130, f"{said}\n")  # without waiting for what other threads compile and write
        hosts.exit_with_error(KeyboardInterrupt(), said, 130)
    except Exception as error:
        hosts.exit_with_error(error, None, 1)

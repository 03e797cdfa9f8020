"""Watch a running sweep on a live page: its runs, curves, failures, time left, and the law so far.

    python -m experiments.watch --workdir=runs/quickstart
    python -m experiments.watch --workdir=runs/quickstart --once
    python -m experiments.watch --workdir=/shared/runs/large --host=0.0.0.0 --port=8100

The workdir is only read, so the command may be started and stopped at any time, on any machine that sees the workdir, while
processes on this machine or others train into it. The page needs `pip install -e '.[serve]'`; --once and --json do not.
docs/watching.md explains what the page shows.

--once prints the state as text and ends, and --json prints it as one line of JSON. Both wait until the law of the runs that
have finished is fitted, which takes seconds. Only this machine reaches the page unless --host says otherwise.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0, also after a signal; 1
when the workdir cannot be read; 2 for wrong flags. The reason is one sentence on standard error.
"""

import contextlib
import os
import sys
import warnings

from absl import app, flags, logging

from experiments import _environment
from experiments._errors import in_one_sentence
from experiments._json import answering

_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of the sweep, which is only read.")
_ONCE = flags.DEFINE_bool("once", False, "Print the state as text and end.")
_JSON = flags.DEFINE_bool("json", False, "Print the state as one line of JSON and end.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen at; 0.0.0.0 is every one of this machine.")
_PORT = flags.DEFINE_integer("port", 8001, "The port to listen at; 0 takes a free one.", 0, 65535)
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Seconds between two looks at the workdir.", 0.1)

MISSING = "the live page needs starlette and uvicorn: pip install -e '.[serve]'; --once and --json do without"


def main(argv):
    with in_one_sentence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is damaged or half-written is said in the state itself
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: this command takes flags only, see --help")
        if _ONCE.value or _JSON.value:
            show()
        else:
            serve()


def show():
    """Prints the state of now."""
    from scaling.study import watching
    sight = watching.Watcher(_WORKDIR.value, wait=True).look()
    with answering(_JSON.value, quiet=True) as answer:
        print(watching.describe_sight(sight))
        answer |= watching.as_json(sight)


def serve():
    """Serves the page until a signal comes."""
    from scaling.study import watching
    try:
        from scaling.serve import live_app, server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        sys.exit(f"error: {MISSING}")
    watcher = watching.Watcher(_WORKDIR.value)
    watcher.look()  # a workdir that is none is refused before anything listens
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)  # training on this machine goes before drawing
    bound = server.listen(_HOST.value, _PORT.value)
    if not server.is_loopback(bound):
        print("everybody who reaches this address sees the page", file=sys.stderr)
    server.serve(live_app.make_live_app(watcher, _SECONDS.value), bound,
                 lambda: print(f"{_WORKDIR.value} is shown at {server.url_of(bound)}", flush=True), grace=1.0)


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)

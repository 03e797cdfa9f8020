"""Serve a finished run over HTTP: an API as OpenAI's clients know it, a page to try it on, and figures for Prometheus.

    python -m experiments.serve --workdir=runs/quickstart
    python -m experiments.serve --workdir=runs/quickstart --run=N=3e5 --port=0 --slots=16
    SCALING_KEY=secret python -m experiments.serve --workdir=runs/quickstart --host=0.0.0.0
    python -m experiments.serve --workdir=runs/quickstart --filter=runs/labels --filter_labels=rude --copies=32

It needs `pip install -e '.[serve]'`. It prints the address of the page once requests are answered, and serves until SIGTERM
or Ctrl-C; what is being written then is finished first. docs/serving.md has the routes, the fields and the limits.

--run is "best", "N=3e5" (the best of the runs nearest to so many non-embedding parameters), a fingerprint, or the start of
one. Runs that write text are served at /v1/completions, runs that draw images at /v1/images/generations. --slots texts are
written side by side, and --queue more may wait. Only this machine reaches the server unless --host says otherwise. --key is
what clients must send; give it as SCALING_KEY, because others on this machine see command lines. --tls_cert and --tls_key
are the files of a certificate and of its key, with which the server speaks HTTPS.

--filter is the workdir of runs that tell labels, of the family masked for text or classifier for images, and --filter_run
one of them. What has one of --filter_labels with a probability from --filter_threshold on is refused, or only marked with
--filter_marks. --copies=n counts the n-grams of tokens of each text that the training text has, and --copies_most refuses
texts with a longer stretch of them. Answers say what was found, and /metrics counts it; docs/safety.md has more.

--canary is a text whose loss is measured every minute, and whose drift since the start /metrics shows; without it, it is
the first held-out example of the run's data, if they are here, and with --canary= there is none.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0 after a signal; 1 when
the run cannot be read or served; 2 for wrong flags. The reason is one sentence on standard error.
"""

import sys

from scaling.devices import chips

chips.leave_absent_tpus_alone()  # before JAX starts

from absl import app, flags, logging  # noqa: E402

import scaling  # noqa: E402
from experiments import _environment  # noqa: E402
from experiments._errors import expected  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of the study whose run is served.")
_RUN = flags.DEFINE_string("run", "best", "best, N=<parameters>, the fingerprint of a run, or the start of one.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen at; 0.0.0.0 is every one of this machine.")
_PORT = flags.DEFINE_integer("port", 8000, "The port to listen at; 0 takes a free one.", 0, 65535)
_KEY = flags.DEFINE_string("key", None, "What clients must send as Authorization: Bearer KEY; better given as SCALING_KEY.")
_SLOTS = flags.DEFINE_integer("slots", 8, "Texts that are written side by side.", 1, 4096)
_QUEUE = flags.DEFINE_integer("queue", 256, "Texts, or requests for images, that may wait; more get status 429.", 0)
_PROMPT_TOKENS = flags.DEFINE_integer("prompt_tokens", None, "The most tokens of a prompt; default: the model's length.", 1)
_NEW_TOKENS = flags.DEFINE_integer("new_tokens", None, "The most tokens of a text; default: the model's length.", 1)
_TEXTS = flags.DEFINE_integer("texts", 32, "The most texts that a request may ask for.", 1)
_SECONDS = flags.DEFINE_float("seconds", 120.0, "The longest that a request for text takes, waiting included.", 0.1)
_GRACE = flags.DEFINE_float("grace", 30.0, "Seconds that requests have to end after SIGTERM.", 1.0)
_TLS_CERT = flags.DEFINE_string("tls_cert", None, "A certificate in PEM, with which the server speaks HTTPS.")
_TLS_KEY = flags.DEFINE_string("tls_key", None, "The file of the key of --tls_cert.")
_FILTER = flags.DEFINE_string("filter", None, "The workdir of runs that tell labels, which filter what is served.")
_FILTER_RUN = flags.DEFINE_string("filter_run", "best", "The run of --filter, named as --run.")
_FILTER_LABELS = flags.DEFINE_list("filter_labels", [], "The labels, by name or number, that --filter keeps back.")
_FILTER_THRESHOLD = flags.DEFINE_float("filter_threshold", 0.5, "The probability of them that is enough.", 0.0, 1.0)
_FILTER_MARKS = flags.DEFINE_bool("filter_marks", False, "Mark what --filter finds, and keep nothing back.")
_COPIES = flags.DEFINE_integer("copies", None, "Tokens of the n-grams that are looked up in the training text.", 2)
_COPIES_MOST = flags.DEFINE_integer("copies_most", None, "The longest stretch of known n-grams of a text, in tokens.", 2)
_CANARY = flags.DEFINE_string("canary", None, "A text whose loss is watched, in place of the first held-out example.")

MISSING = "serving needs starlette, uvicorn and prometheus-client: pip install -e '.[serve]'"


def main(argv):
    try:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}; flags are written --name=value")
        if (_TLS_CERT.value is None) != (_TLS_KEY.value is None):
            raise flags.Error("--tls_cert and --tls_key go together; write both, or neither")
        if bool(_FILTER.value) != bool(_FILTER_LABELS.value):
            raise flags.Error("--filter and --filter_labels go together: which runs tell labels, and which labels nobody "
                              "should see")
        if _COPIES_MOST.value and not _COPIES.value:
            raise flags.Error("--copies_most is the limit of --copies: write it too, such as --copies=32")
        try:
            from scaling.serve import server
            from scaling.serve.app import make_app
            from scaling.serve.engine import ServeLimits
            from scaling.serve.monitoring import find_canary
            from scaling.study.restore import titled
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "prometheus_client"):
                raise
            sys.exit(f"error: {MISSING}")
    except flags.Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        from scaling.devices.compilation import keep_compiled
        keep_compiled()
        tls = _TLS_CERT.value and (_TLS_CERT.value, _TLS_KEY.value)
        if tls:
            server.check_certificate(*tls)
        bound = server.listen(_HOST.value, _PORT.value)
        run = scaling.restore(_WORKDIR.value, _RUN.value)
        limits = ServeLimits(_SLOTS.value, _QUEUE.value, _PROMPT_TOKENS.value, _NEW_TOKENS.value, _TEXTS.value,
                             _SECONDS.value)
        canary = None if _CANARY.value == "" else find_canary(run, _CANARY.value)
        served = make_app(run, limits, key=_KEY.value, name=_RUN.value, canary=canary, screens=screens_of(run))
        if not _KEY.value and not server.is_loopback(bound):
            print("everybody who reaches this address may use the model; SCALING_KEY asks for a key", file=sys.stderr)
        said = f"{titled(run)} is served at {server.url_of(bound, bool(tls))}"
        server.serve(served, bound, lambda: print(said, flush=True), _GRACE.value, tls)
    except expected() as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)


def screens_of(run) -> list:
    """The screens that the flags ask for."""
    from scaling.serve.screens import copy_screen, label_screen
    from scaling.study.classifying import ClassifierRun
    found = []
    if _FILTER.value:
        told = ClassifierRun(scaling.restore(_FILTER.value, _FILTER_RUN.value))
        found.append(label_screen(told, _FILTER_LABELS.value, _FILTER_THRESHOLD.value, of=run,
                                  refuses=not _FILTER_MARKS.value))
    if _COPIES.value:
        found.append(copy_screen(run, _COPIES.value, _COPIES_MOST.value))
    return found


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)

"""Send the records and curves of a finished or growing workdir to TensorBoard or Weights & Biases, each run once.

    python -m experiments.upload --workdir=runs/quickstart --writers=tensorboard
    WANDB_MODE=offline python -m experiments.upload --workdir=runs/quickstart --writers=wandb,tensorboard

This is what `experiments.run --writers=...` sends while it trains, for a workdir that was trained without. Each run has its
own name, its config, every point of its curve, and the numbers of its record. What was sent is noted in WORKDIR/uploads, so
that a second call sends only runs that have finished since. Event files for TensorBoard are written into
WORKDIR/tensorboard; where W&B sends to is up to its own settings, such as WANDB_MODE and WANDB_PROJECT.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0; 1 when the workdir
cannot be read or a writer is not installed; 2 for wrong flags. The reason is one sentence on standard error.
"""

from absl import app, flags, logging

from experiments import _environment
from experiments._errors import in_one_sentence
from experiments._json import answering

_WORKDIR = flags.DEFINE_string("workdir", None, "The directory whose runs are sent.")
_WRITERS = flags.DEFINE_list("writers", None, "Where to: tensorboard, wandb, or both, separated by a comma.")
_JSON = flags.DEFINE_bool("json", False, "Print which runs were sent as one line of JSON.")


def main(argv):
    with in_one_sentence(), answering(_JSON.value, quiet=True) as answer:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: this command takes flags only, see --help")
        if not _WRITERS.value:
            raise flags.Error("--writers must name where to send: tensorboard, wandb, or both")
        from scaling.figures import words
        from scaling.results.uploading import upload_runs
        done = upload_runs(_WORKDIR.value, _WRITERS.value)
        for writer, runs in done.items():
            before = f", {len(runs['there'])} were there already" if runs["there"] else ""
            print(f"{writer}: {words.plural(len(runs['sent']), 'run')} sent{before}")
        answer |= done


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "writers"])
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)

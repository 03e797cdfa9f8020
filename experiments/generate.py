"""Generate text or images from a finished run.

    python -m experiments.generate --workdir=runs/quickstart --prompt='def ' --tokens=200 --temperature=.8 --top_p=.95
    python -m experiments.generate --workdir=runs/quickstart --run=031f --prompt='import ' --samples=4 --seed=1
    python -m experiments.generate --workdir=runs/quickstart --prompt='def ' --beam=8 --length_penalty=1
    python -m experiments.generate --workdir=runs/gan --samples=64 --output=grid.png

--run is "best" (the best run of the study, its target included), a fingerprint, or the start of a fingerprint. The family
of the run decides what it generates. A family of text prints the prompt and its continuation token by token; several
samples follow each other, each under a line with its number. A family of images writes a grid of them as one PNG, by
default WORKDIR/generated/<run>-seed<seed>-<samples>.png.

Sample i depends on the run, the prompt, the seed and i only: more samples leave the first ones as they are. With
--temperature=0 every token is the likeliest one, and the seed does not matter.

--beam=k searches for one likely text and draws nothing: after each token it keeps the k texts of the highest score,
log p / ((5 + n) / 6)^length_penalty for n new tokens.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0; 1 when the run cannot
be read or cannot do what was asked; 2 for wrong flags. The reason is one sentence on standard error.
"""

import os
import sys

from scaling.devices import chips

chips.leave_absent_tpus_alone()  # before JAX starts

import numpy as np  # noqa: E402
from absl import app, flags, logging  # noqa: E402
from etils import epath  # noqa: E402

import scaling  # noqa: E402
from experiments import _environment  # noqa: E402
from experiments._errors import expected  # noqa: E402
from scaling.devices.compilation import keep_compiled  # noqa: E402
from scaling.figures.pixels import image_grid  # noqa: E402
from scaling.store import files  # noqa: E402
from scaling.study.restored import RestoredRun, RestoreError  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of the study whose run generates.")
_RUN = flags.DEFINE_string("run", "best", "best, the fingerprint of a run, or the start of one that fits one run only.")
_SAMPLES = flags.DEFINE_integer("samples", None, "How many texts or images; by default 1 text or 32 images.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same samples.", 0, 2**31 - 1)
_PROMPT = flags.DEFINE_string("prompt", None, "Text: what the run continues; empty begins a new document.")
_TOKENS = flags.DEFINE_integer("tokens", 200, "Text: the most tokens to add; the end of a document ends a text earlier.", 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "Text: logits are divided by it; 0 takes the likeliest token.", 0.0)
_TOP_K = flags.DEFINE_integer("top_k", 0, "Text: sample among the k likeliest tokens; 0 is all.", 0)
_TOP_P = flags.DEFINE_float(
    "top_p", 1.0, "Text: sample among the fewest tokens whose probabilities reach p, above 0; 1 is all.", 0.0, 1.0)
_BEAM = flags.DEFINE_integer("beam", None, "Text: search for a likely text with a beam of so many, in place of samples.", 1)
_LENGTH_PENALTY = flags.DEFINE_float("length_penalty", 0.0, "Text, with --beam: above 0 it favours longer texts.", 0.0)
_OUTPUT = flags.DEFINE_string("output", None, "Images: the PNG to write; other content is never overwritten.")

COLUMNS = 8  # images of a row


def main(argv):
    try:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}; a prompt of several words needs quotes: --prompt='a b'")
        if _OUTPUT.value and not _OUTPUT.value.endswith(".png"):
            raise flags.Error(f"--output={_OUTPUT.value} must end in .png")
        keep_compiled()
        run = scaling.restore(_WORKDIR.value, _RUN.value)
        if run.generates == "text":
            write_texts(run)
        else:
            write_images(run)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; Python flushes into nothing at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (flags.Error, *expected()) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, flags.Error) else 1)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)


def write_texts(run: RestoredRun):
    if _PROMPT.value is None:
        raise flags.Error(f"{run} continues text: give it a --prompt")
    if _OUTPUT.value:
        raise flags.Error(f"{run} continues text, which is printed: --output is for images")
    if _BEAM.value:
        return write_likely_text(run)
    if _LENGTH_PENALTY.present:
        raise flags.Error("--length_penalty is for beam search: add --beam, such as --beam=4")
    samples = _SAMPLES.value or 1
    for sample in range(samples):
        pieces = run.stream(_PROMPT.value, tokens=_TOKENS.value, temperature=_TEMPERATURE.value, top_k=_TOP_K.value or None,
                            top_p=None if _TOP_P.value == 1 else _TOP_P.value, seed=_SEED.value, sample=sample)
        first = next(pieces, "")  # before anything is printed, since the prompt may be refused
        if samples > 1:
            print(f"--- sample {sample + 1} of {samples}")
        print(_PROMPT.value + first, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print(flush=True)


def write_likely_text(run: RestoredRun):
    for flag in (_SAMPLES, _SEED, _TEMPERATURE, _TOP_K, _TOP_P):
        if flag.present:
            raise flags.Error(f"--beam finds one text and draws nothing at random: leave out --{flag.name}")
    [text] = run.beam_search([_PROMPT.value], tokens=_TOKENS.value, beam=_BEAM.value, length_penalty=_LENGTH_PENALTY.value)
    print(_PROMPT.value + text, flush=True)


def write_images(run: RestoredRun):
    if _PROMPT.value is not None:
        raise flags.Error(f"{run} draws images: --prompt is for text")
    samples = _SAMPLES.value or 32
    name = f"{run.fingerprint}-seed{_SEED.value}-{samples}.png"
    path = epath.Path(_OUTPUT.value or epath.Path(_WORKDIR.value) / "generated" / name).expanduser()
    images = run.sample(samples, _SEED.value)
    columns = min(samples, COLUMNS)
    rows = -(-samples // columns)
    blank = np.full((rows * columns - samples, *images.shape[1:]), run.family.levels // 2, np.uint8)
    grid = np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])
    write_once(path, image_grid(grid, run.family.levels))
    print(path)


def write_once(path: epath.Path, content: bytes):
    """Writes a new file. One that is there with this content stays; RestoreError where it has another."""
    try:
        files.atomic_write(path, content, exclusive=True)
    except files.DiskFull:
        raise
    except OSError as error:
        if not path.exists():
            raise RestoreError(f"{path} cannot be written: {error.strerror or error}") from None
        if not path.is_file() or path.read_bytes() != content:
            raise RestoreError(f"{path} exists and holds something else: name another file by --output") from None


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)

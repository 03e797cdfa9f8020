"""Generate text, images or sound from a finished run.

    python -m experiments.generate --workdir=runs/quickstart --prompt='def ' --tokens=200 --temperature=.8 --top_p=.95
    python -m experiments.generate --workdir=runs/quickstart --run=031f --prompt='import ' --samples=4 --seed=1
    python -m experiments.generate --workdir=runs/quickstart --prompt='def ' --beam=8 --length_penalty=1
    python -m experiments.generate --workdir=runs/translation --source='Where is it?' --beam=4 --json
    python -m experiments.generate --workdir=runs/gan --run=N=3e5 --samples=64 --label=7 --output=grid.png
    python -m experiments.generate --workdir=runs/music-audio --samples=4 --tokens=16000 --output=tones.wav
    python -m experiments.generate --workdir=runs/music --prompt=$'M:6/8\\nL:1/8\\nK:G\\n' --output=tune.svg

--run is "best" (the best run of the study, its target included), "N=3e5" (the best of the runs nearest to so many
non-embedding parameters), a fingerprint, or the start of one. The family of the run decides what it generates. A family of
text prints the prompt and its continuation token by token; several samples follow each other, each under a line with its
number. One that writes a text given another one takes that as --source, and prints what it writes alone. --stop ends a text
before a string, such as $'\\n\\n', and may be repeated. Of tunes in ABC notation --output=tune.svg writes the score beside
the text (tune-1.svg and so on of several samples), where `verovio` is installed. A family of images writes a grid of them
as one PNG, by default WORKDIR/generated/<run>-seed<seed>-<samples>.png. Without --label (a number or a name) and --caption,
image i has those of image i of the evaluation data, if the family reads any. A family of captions and images prints the
caption of each --image (a number in the evaluation data, or a file). A run on sound draws recordings of --tokens samples
(8,000 are a second; by default two seconds) and writes them one after another as one WAV, by default
WORKDIR/generated/<run>-seed<seed>-<samples>.wav. --json prints one line of JSON instead, with all texts or the path.

Sample i depends on the run, the prompt, the seed and i only: more samples leave the first ones as they are. With
--temperature=0 every token is the likeliest one, and the seed does not matter.

--interactive takes every line of standard input in place of --prompt or --source, and writes after each, until Ctrl-D.

--beam=k searches for one likely text and draws nothing: after each token it keeps the k texts of the highest score,
log p / ((5 + n) / 6)^length_penalty for n new tokens.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0; 1 when the run cannot
be read or cannot do what was asked; 2 for wrong flags. The reason is one sentence on standard error.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING

from scaling.devices import chips

chips.leave_absent_tpus_alone()  # before JAX starts

import numpy as np  # noqa: E402
from absl import app, flags, logging  # noqa: E402
from etils import epath  # noqa: E402

import scaling  # noqa: E402
from experiments import _environment  # noqa: E402
from experiments._errors import in_one_sentence  # noqa: E402
from experiments._json import answering  # noqa: E402
from experiments._written import write_once, write_scores  # noqa: E402
from scaling import families  # noqa: E402
from scaling.data import engraving  # noqa: E402
from scaling.data.waves import RATE, wav_bytes  # noqa: E402
from scaling.figures.pixels import image_grid  # noqa: E402
from scaling.results import tuned  # noqa: E402
from scaling.store import files  # noqa: E402

if TYPE_CHECKING:
    from scaling.study.restored import RestoredRun

_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of the study whose run generates.")
_RUN = flags.DEFINE_string("run", "best", "best, N=<parameters>, the fingerprint of a run, or the start of one.")
_SAMPLES = flags.DEFINE_integer("samples", None, "How many texts, images or recordings; by default 1, 32 or 4.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same samples.", 0, 2**31 - 1)
_PROMPT = flags.DEFINE_string("prompt", None, "Text: what the run continues; empty begins a new document.")
_TOKENS = flags.DEFINE_integer("tokens", 200, "Text: the most tokens to add; the end of a document ends a text earlier.", 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "Text: logits are divided by it; 0 takes the likeliest token.", 0.0)
_TOP_K = flags.DEFINE_integer("top_k", 0, "Text: sample among the k likeliest tokens; 0 is all.", 0)
_TOP_P = flags.DEFINE_float(
    "top_p", 1.0, "Text: sample among the fewest tokens whose probabilities reach p, above 0; 1 is all.", 0.0, 1.0)
_BEAM = flags.DEFINE_integer("beam", None, "Text: search for a likely text with a beam of so many, in place of samples.", 1)
_LENGTH_PENALTY = flags.DEFINE_float("length_penalty", 0.0, "Text, with --beam: above 0 it favours longer texts.", 0.0)
_SOURCE = flags.DEFINE_string("source", None, "Text given another one, such as a translation: what it is written from.")
_STOP = flags.DEFINE_multi_string("stop", [], "Text: a string before which a text ends; may be repeated.")
_LABEL = flags.DEFINE_string("label", None, "Images: the label of all of them, a number or a name that the data have.")
_CAPTION = flags.DEFINE_string("caption", None, "Images: the caption of all of them.")
_INTERACTIVE = flags.DEFINE_bool("interactive", False, "Text: write after every line of standard input, until it ends.")
_IMAGE = flags.DEFINE_multi_string("image", [], "Images: one to describe in words, a number or a file; may be repeated.")
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON: the run, what was asked for, and the texts or the path.")
_OUTPUT = flags.DEFINE_string("output", None, "The PNG, WAV or score (SVG) to write; other content is never overwritten.")

COLUMNS = 8  # images of a row


def main(argv):
    with in_one_sentence():
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}; a prompt of several words needs quotes: --prompt='a b'")
        if _OUTPUT.value and not _OUTPUT.value.endswith((".png", ".wav", ".svg")):
            raise flags.Error(f"--output={_OUTPUT.value} must end in .png for images, .wav for sound, or .svg for scores")
        from scaling.devices.compilation import keep_compiled  # here, since --help needs none of it
        keep_compiled()
        run = scaling.restore(_WORKDIR.value, _RUN.value)
        try:
            if _IMAGE.value:
                write_descriptions(run)
            elif getattr(run.experiment.data, "sound", None):
                write_sound(run)
            elif run.generates == "text":
                write_texts(run)
            else:
                write_images(run)
        except BrokenPipeError:  # the reader, such as `head`, has seen enough; Python flushes into nothing at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_texts(run: RestoredRun):
    if not _INTERACTIVE.value:
        write_after(run, _given_text(run), {name: value for name, value in _given().items() if value is not None})
    elif _PROMPT.value is not None or _SOURCE.value is not None:
        raise flags.Error("--interactive reads prompts from standard input: leave out --prompt and --source")
    else:
        converse(run)


def converse(run: RestoredRun):
    """Writes after every line of standard input. A line that the run cannot read does not end it."""
    from scaling.study.prompts import PromptError
    from scaling.study.restored import RestoreError
    name = "source" if _rewrites(run) else "prompt"
    while True:
        if sys.stdin.isatty():
            print(f"{name}> ", end="", file=sys.stderr, flush=True)
        if not (line := sys.stdin.readline()):
            return
        try:
            write_after(run, line.rstrip("\r\n"), {name: line.rstrip("\r\n")})
        except (PromptError, RestoreError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)


def write_after(run: RestoredRun, prompt: str, given: dict):
    """Writes the texts after one prompt, or from one source, as the flags say; `given` names it in JSON."""
    from scaling.study.prompts import END
    from scaling.study.restore import titled
    scored = getattr(run.experiment.data, "abc", False) and not _INTERACTIVE.value
    if scored and _OUTPUT.value:
        engraving.check_installed()
        _check_ending(".svg")
    for flag, value in ((_OUTPUT, None if scored else _OUTPUT.value), (_LABEL, _LABEL.value), (_CAPTION, _CAPTION.value)):
        if value is not None:
            raise flags.Error(f"{titled(run)} writes text, which is printed: --{flag.name} is for images")
    stop = (END, *_STOP.value)
    if _BEAM.value:
        return write_likely_text(run, prompt, stop, given)
    if _LENGTH_PENALTY.present:
        raise flags.Error("--length_penalty is for beam search: add --beam, such as --beam=4")
    samples = _SAMPLES.value or 1
    options = {"tokens": _TOKENS.value, "temperature": _TEMPERATURE.value, "top_k": _TOP_K.value or None,
               "top_p": None if _TOP_P.value == 1 else _TOP_P.value, "seed": _SEED.value}
    shown, texts = given.get("prompt", ""), []
    with answering(_JSON.value, quiet=True) as answer:
        for sample in range(samples):
            pieces = run.stream(prompt, sample=sample, stop=stop, **options)
            texts.append(next(pieces, ""))  # before anything is printed, since the prompt may be refused
            if samples > 1:
                print(f"--- sample {sample + 1} of {samples}")
            print(shown + texts[-1], end="", flush=True)
            for piece in pieces:
                print(piece, end="", flush=True)
                texts[-1] += piece
            print(flush=True)
        answer |= {**about(run), **given, "stop": _STOP.value, **options, "texts": texts}
        answer |= write_scores(_OUTPUT.value, shown, texts)


def _given_text(run: RestoredRun) -> str:
    """The text that the run reads: --prompt or, where it writes a text given another one, --source."""
    from scaling.study.restore import titled
    rewrites = _rewrites(run)
    if _SOURCE.value is not None and not rewrites:
        raise flags.Error(f"{titled(run)} continues text: give it a --prompt in place of --source")
    if _SOURCE.value is not None and _PROMPT.value is not None:
        raise flags.Error("--source and --prompt are the same here: give one of them")
    given = _PROMPT.value if _SOURCE.value is None else _SOURCE.value
    if given is None:
        raise flags.Error(f"{titled(run)} writes a text given another one: give it a --source" if rewrites else
                          f"{titled(run)} continues text: give it a --prompt")
    return given


def _rewrites(run: RestoredRun) -> bool:
    """Whether the run writes a text given another one."""
    from scaling.experiment import Pairs
    return isinstance(run.experiment.data, Pairs)


def _given() -> dict:
    return {"prompt": _PROMPT.value} if _SOURCE.value is None else {"source": _SOURCE.value}


def write_likely_text(run: RestoredRun, prompt: str, stop, given: dict):
    for flag in (_SAMPLES, _SEED, _TEMPERATURE, _TOP_K, _TOP_P):
        if flag.present:
            raise flags.Error(f"--beam finds one text and draws nothing at random: leave out --{flag.name}")
    options = {"tokens": _TOKENS.value, "beam": _BEAM.value, "length_penalty": _LENGTH_PENALTY.value}
    texts = run.beam_search([prompt], stop=stop, **options)
    with answering(_JSON.value, quiet=True) as answer:
        shown = given.get("prompt", "")
        print(shown + texts[0], flush=True)
        answer |= {**about(run), **given, "stop": _STOP.value, **options, "texts": texts}
        answer |= write_scores(_OUTPUT.value, shown, texts)


def write_images(run: RestoredRun):
    from scaling.study.restore import titled
    for flag, value in ((_PROMPT, _PROMPT.value), (_SOURCE, _SOURCE.value), (_STOP, _STOP.value or None),
                        (_INTERACTIVE, _INTERACTIVE.value or None)):
        if value is not None:
            raise flags.Error(f"{titled(run)} draws images: --{flag.name} is for text")
    samples, asked = _SAMPLES.value or 32, {"label": _LABEL.value, "caption": _CAPTION.value}
    asked = {name: value for name, value in asked.items() if value is not None}
    named = f"-{hashlib.sha256(files.dumps(asked).encode()).hexdigest()[:8]}" if asked else ""
    name = f"{run.fingerprint}-seed{_SEED.value}-{samples}{named}.png"
    path = epath.Path(_OUTPUT.value or epath.Path(_WORKDIR.value) / "generated" / name).expanduser()
    _check_ending(".png")
    images = run.sample(samples, _SEED.value, **asked)
    columns = min(samples, COLUMNS)
    rows = -(-samples // columns)
    blank = np.full((rows * columns - samples, *images.shape[1:]), run.family.levels // 2, np.uint8)
    grid = np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])
    write_once(path, image_grid(grid, run.family.levels))
    with answering(_JSON.value, quiet=True) as answer:
        print(path)
        answer |= {**about(run), **asked, "samples": samples, "seed": _SEED.value, "output": os.fspath(path)}


def _check_ending(wanted: str):
    if _OUTPUT.value and not _OUTPUT.value.endswith(wanted):
        raise flags.Error(f"--output={_OUTPUT.value} must end in {wanted}")


def write_sound(run: RestoredRun):
    from scaling.study import recordings
    from scaling.study.restore import titled
    for flag in (_PROMPT, _SOURCE, _STOP, _LABEL, _CAPTION, _INTERACTIVE, _BEAM, _LENGTH_PENALTY, _TOP_K, _TOP_P):
        if flag.present:
            raise flags.Error(f"{titled(run)} draws recordings, each from its beginning on: leave out --{flag.name}")
    _check_ending(".wav")
    count, temperature = _SAMPLES.value or 4, _TEMPERATURE.value if _TEMPERATURE.present else 1.0
    length = _TOKENS.value if _TOKENS.present else 2 * RATE
    name = f"{run.fingerprint}-seed{_SEED.value}-{count}.wav"
    path = epath.Path(_OUTPUT.value or epath.Path(_WORKDIR.value) / "generated" / name).expanduser()
    waves = recordings.draw_recordings(run, count, length, _SEED.value, temperature)
    write_once(path, wav_bytes(recordings.joined(waves)))
    with answering(_JSON.value, quiet=True) as answer:
        print(path)
        asked = {"samples": count, "tokens": length, "temperature": temperature, "seed": _SEED.value}
        answer |= {**about(run), **asked, "seconds": [len(wave) / RATE for wave in waves], "output": os.fspath(path)}


def write_descriptions(run: RestoredRun):
    from scaling.study.captioning import caption_images, images_named

    for flag in (_PROMPT, _SOURCE, _STOP, _LABEL, _CAPTION, _OUTPUT, _SAMPLES):
        if flag.present:
            raise flags.Error(f"--image is described in words, which are printed: leave out --{flag.name}")
    texts = caption_images(run, images_named(run, _IMAGE.value), _SEED.value, _TEMPERATURE.value)
    with answering(_JSON.value, quiet=True) as answer:
        print("\n".join(texts))
        asked = {"image": _IMAGE.value, "seed": _SEED.value, "temperature": _TEMPERATURE.value}
        answer |= {**about(run), **asked, "texts": texts}


def about(run: RestoredRun) -> dict:
    """Which run it is, in an answer as JSON."""
    return {"run": run.fingerprint, "family": families.name(run.family), tuned.PARAMS: run.record[tuned.PARAMS]}


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)

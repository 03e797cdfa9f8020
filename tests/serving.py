"""Engines and apps on small models with random parameters, and texts that are waited for."""

import functools
import json
import queue

import jax
import numpy as np
from tiny_workdir import image_experiment

from scaling import experiment, families
from scaling.data.tokenizers import Bytes
from scaling.families.ngram import NGram
from scaling.families.recurrent import Recurrent
from scaling.families.seq2seq import Seq2Seq
from scaling.families.transformer import Transformer
from scaling.results import tuned
from scaling.results.records import Records
from scaling.serve.engine import Engine, Options, ServeLimits
from scaling.store.checkpoint import Checkpoints
from scaling.study.restored import RestoredRun

FAMILIES = {"transformer": Transformer(length=32, width=16, layers=2, heads=2),
            "lstm": Recurrent(length=32, width=16, layers=1),
            "seq2seq": Seq2Seq(source_length=32, length=32, width=16, layers=1),
            "ngram": NGram(length=32, order=3, counts=4096)}
LIMITS = ServeLimits(slots=3, queue=40, prompt_tokens=16, new_tokens=24, texts=12, seconds=60)
ASK = {"prompt": "def ", "max_tokens": 12, "seed": 7, "temperature": 0.9}


def ask(client, **changes):
    """The answer of a client of an app to a request for a completion; a field that is ... is left out."""
    return client.post("/v1/completions", json={name: value for name, value in {**ASK, **changes}.items() if value != ...})


def events(answer):
    """The objects of a stream, without the [DONE] that ends it."""
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]" and all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@functools.cache
def fresh_params(family):
    """Sharper than at initialisation, so that texts depend on what came before."""
    params = jax.jit(family.init)(jax.random.key(0))
    return params if isinstance(family, NGram) else jax.tree.map(lambda x: 3 * x, params)


def fresh_run(family, name="f" * 16) -> RestoredRun:
    """A run on bytes that was never trained."""
    base = experiment.from_config(experiment.config(families.name(family))).replace({"family": family})
    return RestoredRun({"fingerprint": name, tuned.PARAMS: 1e4}, base, fresh_params(family), None)


def write_run(run: RestoredRun, workdir):
    """The workdir with a run in it, as training leaves it."""
    saved = Checkpoints(workdir / "params" / run.fingerprint)
    saved.save(0, {"params": run.params})
    saved.close()
    Records(workdir).write({**run.record, "experiment": experiment.to_dict(run.experiment)})
    return workdir


def image_run() -> RestoredRun:
    """A VAE of letters that was never trained."""
    one = image_experiment()
    return RestoredRun({"fingerprint": "a" * 16, tuned.PARAMS: 1e4}, one, jax.jit(one.family.init)(jax.random.key(0)), None)


def engine_of(family, **limits) -> Engine:
    """An engine that has not started; `limits` replace those of LIMITS."""
    return Engine(family, fresh_params(family), Bytes(), ServeLimits(**(vars(LIMITS) | limits)))


class Heard:
    """What an engine says of the texts of a job."""

    def __init__(self, engine, prompts, copies=1, **options):
        self.pieces, self.left = queue.SimpleQueue(), len(prompts) * copies
        prompts = [np.frombuffer(prompt.encode() or b"\0", np.uint8).astype(np.int32) for prompt in prompts]
        self.job = engine.submit(prompts, Options(**options), self.pieces.put, copies=copies)
        self.texts, self.finish, self.tokens = {}, {}, {}

    def wait(self):
        """[text of each], when all have ended."""
        while self.left:
            self.one_more()
        return [text for _, text in sorted(self.texts.items())]

    def one_more(self):
        piece = self.pieces.get(timeout=60)
        self.texts[piece.index] = self.texts.get(piece.index, "") + piece.text
        self.tokens[piece.index] = piece.tokens
        if piece.finish:
            self.finish[piece.index] = piece.finish
            self.left -= 1
        return piece

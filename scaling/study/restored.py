"""A finished run in memory: it continues text or draws images, and evaluates as its record says."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling import families
from scaling.data.tokenizers import Bytes, Tokenizer
from scaling.experiment import Experiment, Pairs, Text
from scaling.families import _generate
from scaling.families._beam import beam_search
from scaling.fields import nearest, replace
from scaling.figures import words
from scaling.results import tuned
from scaling.study.prompts import (
    END,
    TextOfTokens,
    before_stops,
    encode_prompt,
    room_after,
    split_stops,
    what_generates,
)
from scaling.sweeps.runner import Runner
from scaling.training.program import Program
from scaling.training.step import State, numbered

IMAGES_AT_ONCE = 32  # images of one call; a fixed number, so that an image does not depend on how many are asked for


class RestoreError(ValueError):
    """A run that cannot be restored, or that cannot do what was asked of it; the message says why."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RestoredRun:
    """A finished run.

    record: what the run produced, as in workdir/records.
    experiment: what determined it; `family` is its family.
    params: {player: parameters}; the averaged ones where the run kept an average.
    runner: finds the data, the judge and the evaluation sets, once for all runs that share it.
    step: the step that the parameters are of; None is the last one.
    """

    record: dict[str, Any]
    experiment: Experiment
    params: Any
    runner: Runner
    step: int | None = None

    def __repr__(self):
        return (f"RestoredRun({self.fingerprint}, {families.name(self.family)} "
                f"N={words.count(self.record[tuned.PARAMS])})")

    @property
    def fingerprint(self) -> str:
        return self.record["fingerprint"]

    @property
    def family(self):
        return self.experiment.family

    @property
    def source(self):
        """The data that the run was trained on, loaded when first asked for; see `scaling.data`."""
        return self.runner.source(self.experiment)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of a run on text. Bytes need no data; others come with the source."""
        data = self.experiment.data
        return Bytes() if data.tokenizer == Bytes.name and data.numbers is None else self.source.tokenizer

    # Compiled functions are kept: `jax.jit` forgets those of a method as soon as the method is not held any more.
    _draw = functools.cached_property(lambda self: jax.jit(self.family.sample))
    _evaluate = functools.cached_property(lambda self: jax.jit(self.family.evaluate))
    _logits = functools.cached_property(lambda self: jax.jit(self.family.logits))

    @property
    def generates(self) -> str:
        """"text" or "images": what the family can generate. RestoreError for a family that generates neither."""
        return what_generates(self.family) or self._cannot("generate", what_generates)

    # ---- text

    def generate(self, prompts: Sequence[str], *, tokens: int = 200, temperature: float = 1.0, top_k: int | None = None,
                 top_p: float | None = None, seed: int = 0, stop: Sequence[int | str] = (END,)) -> list[str]:
        """A continuation of each prompt by up to `tokens` tokens, without the prompt.

        `temperature`, `top_k` and `top_p` are as in `scaling.families._generate.generate`; temperature 0 always takes the
        likeliest token. A text ends before the first of the tokens and strings in `stop`: by default at the end of a
        document. Text i depends on its prompt, the seed and i, not on the other prompts.
        """
        if isinstance(prompts, str):
            prompts = [prompts]
        encoded = [self._encode(prompt, tokens, temperature, top_k, top_p) for prompt in prompts]
        ends, strings = split_stops(stop)
        found = _generate.generate(self.family, self.params, encoded, max_tokens=tokens, temperature=temperature,
                                   top_k=top_k, top_p=top_p, stop=ends, seed=seed)
        return ["".join(before_stops([self.tokenizer.decode(text)], strings)) for text in found]

    def stream(self, prompt: str, *, tokens: int = 200, temperature: float = 1.0, top_k: int | None = None,
               top_p: float | None = None, seed: int = 0, sample: int = 0,
               stop: Sequence[int | str] = (END,)) -> Iterator[str]:
        """Yields the continuation of a prompt piece by piece, as soon as each piece is whole characters.

        The pieces together are text number `sample` of `generate([prompt, prompt, ...])` with the same options.
        """
        encoded = self._encode(prompt, tokens, temperature, top_k, top_p)
        ends, strings = split_stops(stop)
        drawn = _generate.stream(self.family, self.params, encoded, max_tokens=tokens, temperature=temperature,
                                 top_k=top_k, top_p=top_p, stop=ends, seed=seed, row=sample)
        text = TextOfTokens(self.tokenizer, strings)
        for token in drawn:
            if piece := text.add(token):
                yield piece
            if text.ended:
                return
        if rest := text.rest():
            yield rest

    def beam_search(self, prompts: Sequence[str], *, tokens: int = 200, beam: int = 4, length_penalty: float = 0.0,
                    stop: Sequence[int | str] = (END,)) -> list[str]:
        """A likely continuation of each prompt by up to `tokens` tokens, without the prompt: the best of a beam of texts.

        `beam` and `length_penalty` are as in `scaling.families._beam.beam_search`, and `stop` as in `generate`.
        """
        ends, strings = split_stops(stop)
        encoded = [self._encode(prompt, tokens) for prompt in prompts]
        try:
            found = beam_search(self.family, self.params, encoded, max_tokens=tokens, beam=beam,
                                length_penalty=length_penalty, stop=ends)
        except ValueError as error:
            raise RestoreError(str(error)) from None
        return ["".join(before_stops([self.tokenizer.decode(text)], strings)) for text in found]

    def _encode(self, prompt, tokens, temperature=1.0, top_k=None, top_p=None):
        if what_generates(self.family) != "text":
            self._cannot("continue text", lambda family: what_generates(family) == "text")
        try:
            encoded = encode_prompt(prompt, self.tokenizer)
            _generate.check_request(self.family, [encoded], tokens, temperature, top_k, top_p)
        except ValueError as error:
            raise RestoreError(str(error)) from None
        return encoded

    def continue_each(self, prompts: Sequence[str], most: int = 300, **options) -> list[str]:
        """A continuation of each prompt by `most` tokens, or by as many as the model's positions allow.

        The options are those of `generate`, and text i is the same as there.
        """
        room = [room_after(encode_prompt(prompt, self.tokenizer), self.family) for prompt in prompts]
        if all(left is None or left >= most for left in room):
            return self.generate(prompts, tokens=most, **options)
        return ["".join(self.stream(prompt, tokens=most if left is None else min(most, left), sample=i, **options))
                for i, (prompt, left) in enumerate(zip(prompts, room, strict=True))]

    # ---- images

    def sample(self, count: int, seed: int = 0, temperature: float = 1.0, *, label: int | str | None = None,
               caption: str | None = None) -> np.ndarray:
        """`count` images, uint8 [count, H, W, C] with values below `family.levels`.

        Image i depends on the seed and on i alone. A conditioned family takes the label or caption of image i of the
        first evaluation set, or `label` (a number, or a name that the data have) and `caption`; see `conditions`. With
        seed 0 these are the images that the record's distances were measured on. `temperature` multiplies the noise that
        latents are drawn with; 0 gives the image in the middle.
        """
        if what_generates(self.family) != "images":
            self._cannot("draw images", lambda family: what_generates(family) == "images")
        if count < 1:
            raise RestoreError(f"the number of images must be at least 1, not {count}")
        if not 0 <= temperature < math.inf:
            raise RestoreError(f"the temperature must be a number from 0 on, not {temperature}")
        conditions, options = self.conditions(label, caption), {} if temperature == 1 else {"temperature": temperature}
        key = jax.random.fold_in(jax.random.key(seed), 1)  # that of `scaling.training.step.sample_batch` for seed 0
        draw, found = self._draw, []
        for start in range(0, count, IMAGES_AT_ONCE):
            numbers = np.arange(start, start + IMAGES_AT_ONCE, dtype=np.int32)
            batch = {name: values[numbers % len(values)] for name, values in conditions.items()}
            found.append(np.asarray(draw(self.params, {**batch, "example": numbers}, key, **options)))
        return np.concatenate(found)[:count]

    def conditions(self, label: int | str | None = None, caption: str | None = None) -> dict[str, np.ndarray]:
        """{"label": int [n], "caption": [n, bytes]}: what the family is conditioned on, as the first evaluation set has it,
        or one row of what is asked for."""
        batch = jax.eval_shape(lambda: self.family.example_batch(1, jax.random.key(0)))
        names, asked = batch.keys() - {"image", "example"}, {}
        for name, value in (("label", label), ("caption", caption)):
            if value is not None and name not in names:
                raise RestoreError(f"run {self.fingerprint} draws images without a {name}: leave the {name} out")
        if label is not None:
            asked["label"] = np.array([self._label(label)], np.int32)
        if caption is not None:
            size = self.family.caption
            asked["caption"] = np.frombuffer(caption.encode()[:size].ljust(size, b"\0"), np.uint8)[None]
        if not names - asked.keys():
            return asked
        first = self.source.evaluation(self.source.splits[0], self.experiment.data.evaluated)
        return {name: first[name] for name in names} | asked

    def _label(self, label: int | str) -> int:
        """The number of a label, given that or its name."""
        if isinstance(label, str):
            known = self.source.classes(self.experiment.data.label)
            if label in known:
                return known.index(label)
            if not label.isdecimal():
                raise RestoreError(f"no label of {self.source.name} is called {label!r}; {nearest(label, known)}")
        if not 0 <= int(label) < self.family.classes:
            raise RestoreError(f"the label must be a number from 0 to {self.family.classes - 1}, not {label}")
        return int(label)

    # ---- numbers

    def loss(self, examples: Mapping[str, Any] | str | Sequence[str] | None = None) -> np.ndarray:
        """The loss of each example, float32 [n], as the family evaluates it: nats per token of text, or per dimension.

        `examples` are those of an evaluation set of `source`, by default the first one, and numbered as there, because the
        noise of a VAE depends on the numbers. For a run on text they may also be texts, each of them a document of its own.
        """
        if examples is None:
            examples = next(iter(self.runner.evaluation(self.experiment).values()))
        if not isinstance(examples, Mapping):
            texts = [examples] if isinstance(examples, str) else examples
            return np.concatenate([self.loss({"tokens": self._document(text)[None]}) for text in texts])
        size = max(1, self.experiment.data.at_once[1] // self.experiment.data.per_example)
        evaluate, count = self._evaluate, len(next(iter(examples.values())))
        found = []
        for first in range(0, count, size):
            batch = numbered({name: np.asarray(x)[first:first + size] for name, x in examples.items()}, first)
            metrics = evaluate(self.params, batch, jax.random.key(0))  # the key of every evaluation
            if "loss" not in metrics:
                raise RestoreError(f"run {self.fingerprint} is of the family {families.name(self.family)}, which has no "
                                   f"loss of an example; it evaluates {', '.join(sorted(metrics))}")
            found.append(np.asarray(metrics["loss"].over / metrics["loss"].under, np.float32))
        return np.concatenate(found)

    def logits(self, tokens, source=None) -> np.ndarray:
        """The logits of the token after each of `tokens`, integer [S] or [B, S]: float32 [S, vocab] or [B, S, vocab].

        A family that writes a text given another one also takes that, `source`, integer [R] or [B, R]; `tokens` are those
        of the target so far, and begin with 0.
        """
        if not hasattr(self.family, "logits"):
            self._cannot("give logits", lambda family: hasattr(family, "logits"))
        tokens = np.asarray(tokens, np.int32)
        given = [] if source is None else [np.atleast_2d(np.asarray(source, np.int32))]
        if isinstance(self.experiment.data, Pairs) != bool(given):
            says = "leave the source out" if given else "give it as source="
            raise RestoreError(f"a run on {type(self.experiment.data).__name__.lower()} reads tokens "
                               f"{'alone' if given else 'and the text that they rewrite'}: {says}")
        for name, each in (("tokens", tokens), ("source", given[0] if given else tokens)):
            if each.size and not 0 <= each.min() <= each.max() < self.family.vocab:
                raise RestoreError(f"{name} must be from 0 to {self.family.vocab - 1}, the vocabulary of "
                                   f"{self.fingerprint}, not {each.min()} to {each.max()}")
        found = np.asarray(self._logits(self.params, *given, np.atleast_2d(tokens)))
        return found if tokens.ndim == 2 else found[0]

    def _document(self, text: str) -> np.ndarray:
        """The tokens of a text after the end of the document before, int32 [n + 1]."""
        if not isinstance(self.experiment.data, Text):
            raise RestoreError(f"run {self.fingerprint} is evaluated on examples of {type(self.experiment.data).__name__}: "
                               "give them as a mapping of arrays, such as run.source.evaluation(split, count)")
        try:
            encoded = encode_prompt(text, self.tokenizer)
        except ValueError as error:
            raise RestoreError(str(error)) from None
        return np.concatenate([np.array([END], np.int32), encoded])

    # ---- evaluation

    def evaluate(self) -> dict[str, float]:
        """Every metric on the evaluation sets, and of samples where the data have a judge, as in the record."""
        # On one device any batch and any model divide, whatever the run was trained on.
        experiment = replace(self.experiment, {"layout": "data", "microbatch": self.experiment.data.batch})
        program = Program(experiment, self.source, 1, devices=jax.devices()[:1])
        state = State(jnp.zeros(1, jnp.int32), jax.tree.map(lambda x: x[None], self.params), {}, {}, jnp.full(1, -1))
        scores = self.runner.scores(program, state)
        return {name: float(values[0]) for name, values in scores.items()}

    def batches(self) -> Iterator[dict[str, Any]]:
        """Batches of the first evaluation set, their examples numbered."""
        examples = next(iter(self.runner.evaluation(self.experiment).values()))
        data = self.experiment.data
        size = max(1, data.at_once[1] // data.per_example)
        for first in range(0, len(next(iter(examples.values()))), size):
            yield numbered({name: values[first:first + size] for name, values in examples.items()}, first)

    def _cannot(self, what: str, can: Callable[[Any], Any]):
        able = [families.name(family) for family in families.all() if can(family)]
        raise RestoreError(f"run {self.fingerprint} is of the family {families.name(self.family)}, which cannot {what}; "
                           f"families that can: {', '.join(able) or 'none'}")

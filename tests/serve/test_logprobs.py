"""Probabilities of tokens in answers: they are the model's own, of what was written and, with `echo`, of the prompt."""

import jax
import numpy as np
import pytest
from serving import FAMILIES, LIMITS, ask, events, fresh_run
from starlette.testclient import TestClient

from scaling.data.tokenizers import Bytes
from scaling.serve.app import make_app
from scaling.serve.engine import Engine, Options
from scaling.serve.errors import ServeError

RUN = fresh_run(FAMILIES["transformer"])


@pytest.fixture(scope="module")
def client():
    with TestClient(make_app(RUN, LIMITS)) as found:
        yield found


def nats_after(prompt, text):
    """The logarithms of the probabilities of all tokens at each place of a text, float32 [n, 256]."""
    logits = np.asarray(RUN.logits([[*prompt.encode(), *text]]))[0, len(prompt) - 1:-1]
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_logprobs_are_those_of_the_model_for_what_was_drawn_and_for_the_likeliest(client):
    choice = ask(client, logprobs=3, temperature=0.5).json()["choices"][0]
    assert choice["text"] == ask(client, temperature=0.5).json()["choices"][0]["text"]
    found = choice["logprobs"]
    drawn = [ord(word) if len(word) == 1 else int(word.removeprefix("bytes:\\x"), 16) for word in found["tokens"]]
    assert bytes(drawn).decode("utf-8", "replace") == choice["text"] and len(drawn) == 12
    nats = nats_after("def ", drawn)
    np.testing.assert_allclose(found["token_logprobs"], nats[range(12), drawn], atol=1e-4)
    for place, (tops, word) in enumerate(zip(found["top_logprobs"], found["tokens"], strict=True)):
        best = sorted(tops.values())[::-1][:3]
        np.testing.assert_allclose(best, np.sort(nats[place])[::-1][:3], atol=1e-4)
        assert len(tops) == 3 + (tops[word] < best[2]) and tops[word] == found["token_logprobs"][place]
    ends = [*found["text_offset"][1:], len(choice["text"])]
    shown = [choice["text"][start:end] for start, end in zip(found["text_offset"], ends, strict=True)]
    assert all(part.endswith(word) for part, word in zip(shown, found["tokens"], strict=True) if len(word) == 1)
    alone = ask(client, logprobs=0, temperature=0.5).json()["choices"][0]["logprobs"]
    assert [[*tops] for tops in alone["top_logprobs"]] == [[word] for word in found["tokens"]]


def test_logprobs_of_a_stream_add_up_and_end_where_the_text_ends(client):
    text = ask(client, temperature=0.5).json()["choices"][0]["text"]
    options = {"logprobs": 2, "temperature": 0.5, "n": 2, "stop": text[5:7]}
    whole = ask(client, **options).json()["choices"]
    assert max(whole[0]["logprobs"]["text_offset"]) < len(whole[0]["text"]) == text.index(text[5:7])
    parts = events(ask(client, stream=True, **options))
    for want in whole:
        mine = [part["choices"][0]["logprobs"] for part in parts if part["choices"][0]["index"] == want["index"]]
        assert {name: sum((each[name] for each in mine), []) for name in mine[0]} == want["logprobs"]
    assert ask(client).json()["choices"][0]["logprobs"] is None


PROMPTS = ["def f", [*b"a\xc3\xa4\xc3"], ""]  # the second ends within a character


def test_logprobs_with_echo_are_also_those_of_the_prompt_but_for_its_first_token(client):
    asked = {"prompt": "def f", "logprobs": 2, "temperature": 0.5, "n": 2}
    plain, echoed = (ask(client, echo=echo, **asked).json()["choices"] for echo in (False, True))
    for own, both in zip(plain, echoed, strict=True):
        assert both["text"] == "def f" + own["text"] and both["logprobs"]["tokens"][:5] == list("def f")
        for name, values in own["logprobs"].items():
            moved = [value + 5 for value in values] if name == "text_offset" else values
            assert both["logprobs"][name][5:] == moved
        assert both["logprobs"]["token_logprobs"][0] is both["logprobs"]["top_logprobs"][0] is None
        nats = nats_after("d", b"ef f")
        np.testing.assert_allclose(both["logprobs"]["token_logprobs"][1:5], nats[range(4), [*b"ef f"]], atol=1e-4)
        assert both["logprobs"]["text_offset"][:5] == [*range(5)]
        for place, tops in enumerate(both["logprobs"]["top_logprobs"][1:5]):
            np.testing.assert_allclose(sorted(tops.values())[::-1][:2], np.sort(nats[place])[::-1][:2], atol=1e-4)


@pytest.mark.parametrize("prompt", PROMPTS, ids=["text", "bytes", "empty"])
def test_logprobs_with_echo_of_a_stream_add_up(client, prompt):
    options = {"prompt": prompt, "echo": True, "logprobs": 0, "max_tokens": 6}
    whole = ask(client, **options).json()["choices"][0]
    mine = [part["choices"][0]["logprobs"] for part in events(ask(client, stream=True, **options))]
    assert {name: sum((each[name] for each in mine), []) for name in mine[0]} == whole["logprobs"]
    count = len(prompt) if prompt else 0
    assert len(whole["logprobs"]["tokens"]) == count + 6
    offsets = whole["logprobs"]["text_offset"]
    assert offsets == sorted(offsets) and offsets[count] >= (len(bytes(prompt).decode("utf-8", "replace"))
                                                             if isinstance(prompt, list) else len(prompt))


def test_a_prompt_that_is_rewritten_has_no_logprobs():
    family = FAMILIES["seq2seq"]
    engine = Engine(family, jax.eval_shape(family.init, jax.random.key(0)), Bytes(), LIMITS)
    with pytest.raises(ServeError, match="leave out echo or logprobs"):
        engine.check([np.ones(3, np.int32)], Options(logprobs=1, echo=True))
    engine.check([np.ones(3, np.int32)], Options(logprobs=1))

"""The engine: what a text becomes depends on nothing but its own request, and slots are free again when it ends."""

import dataclasses
import threading

import jax
import numpy as np
import pytest
from serving import FAMILIES, Heard, engine_of, fresh_params, fresh_run

from scaling.families import _generate
from scaling.serve.engine import CANCELLED, ERROR, LENGTH, STOP, TIMEOUT, Closed, Options, QueueFull
from scaling.serve.errors import ServeError
from scaling.serve.slots import Drawing, Slots

PROMPTS = ["def ", "a", "import numpy"]


@pytest.fixture(scope="module")
def running():
    """{family: a started engine}, each made when it is first asked for."""
    made = {}

    def get(name="transformer"):
        if name not in made:
            made[name] = engine_of(FAMILIES[name]).start()
        return made[name]
    yield get
    for engine in made.values():
        engine.close(finish=False)


# ----- what a text becomes


NAMES = [pytest.param(name, marks=pytest.mark.slow if name == "seq2seq" else ()) for name in FAMILIES]
DRAWN = {"seed": 7, "temperature": 0.9, "top_k": 50, "top_p": 0.95}


@pytest.mark.parametrize("name,options", [
    ("transformer", {"temperature": 0.0}), *(pytest.param(*each.values, DRAWN, marks=each.marks) for each in NAMES)])
def test_texts_are_those_of_a_restored_run(running, name, options):
    """Those of copies too: six texts in three slots."""
    texts = fresh_run(FAMILIES[name]).generate([PROMPTS[0]] * 2 + [PROMPTS[1]] * 2 + [PROMPTS[2]] * 2, tokens=12, **options)
    assert Heard(running(name), PROMPTS, copies=2, max_tokens=12, **options).wait() == texts


@pytest.mark.parametrize("name", NAMES)
def test_a_text_does_not_depend_on_who_else_is_served(running, name):
    """Alone, and in a house that is full of others with other options, who come and go at other steps."""
    engine, asked = running(name), dict(max_tokens=24, seed=3, temperature=1.0, top_p=0.9)
    alone = Heard(engine, PROMPTS, **asked).wait()
    others = [Heard(engine, ["x" * (1 + i)], copies=2, max_tokens=1 + 3 * i, seed=i, top_k=i or None) for i in range(6)]
    crowded = Heard(engine, PROMPTS, **asked)
    others += [Heard(engine, ["y"], copies=3, max_tokens=5, seed=9, temperature=0)]
    assert crowded.wait() == alone
    for each in others:
        each.wait()


def test_rows_of_slots_have_the_same_bits_whatever_is_beside_them():
    family, drawing = FAMILIES["transformer"], Drawing(temperature=1.0, seed=4)
    states = []
    for neighbours in ([], [(0, [1, 2]), (2, [9] * 12)]):
        slots = Slots(family, fresh_params(family), 3, 16, 24)
        slots.begin(1, np.array([5, 6, 7], np.int32), drawing)
        for slot, prompt in neighbours:
            slots.begin(slot, np.array(prompt, np.int32), Drawing(seed=slot))
        for _ in range(6):
            slots.step()
        states.append(np.asarray(slots._board["state"]["k"][:, 1]))
    assert states[0].any()
    np.testing.assert_array_equal(*states)


def test_prompts_are_padded_to_few_widths():
    abstract = {name: jax.eval_shape(family.init, jax.random.key(0)) for name, family in FAMILIES.items()}
    widths = {name: Slots(family, abstract[name], 3, 40, 24).widths for name, family in FAMILIES.items()}
    assert widths == dict.fromkeys(("transformer", "lstm", "ngram"), (16, 32, 40)) | {"seq2seq": (40,)}


def test_each_row_chooses_as_a_text_alone_does():
    rng = np.random.default_rng(0)
    logits = np.round(rng.normal(size=(64, 50)), 1).astype(np.float32)  # with ties
    keys = jax.random.split(jax.random.key(0), 64)
    ways = [(0.0, None, None), (0.5, 0.3, None), (1.3, None, 7), (1.3, 0.9, 7), (0.5, 0.9, 80), (1.3, None, None)]
    ways = [ways[i % len(ways)] for i in range(64)]
    found = jax.jit(_generate.choose_each)(
        logits, keys, np.array([t for t, _, _ in ways], np.float32),
        np.array([p or 1 for _, p, _ in ways], np.float32), np.array([k or 0 for *_, k in ways], np.int32))
    wanted = [int(_generate._choose(row, key, np.float32(t), np.float32(p or 1), top_k=k, nucleus=p is not None,
                                    greedy=t == 0)) for row, key, (t, p, k) in zip(logits, keys, ways)]
    assert found.tolist() == wanted


def test_a_text_ends_before_a_stop_and_says_why(running):
    [whole] = Heard(running(), ["a"], max_tokens=24, seed=1).wait()
    middle = whole[8:10]
    heard = Heard(running(), ["a"], max_tokens=24, seed=1, stop=("never there", middle))
    assert heard.wait() == [whole[:whole.index(middle)]] and heard.finish == {0: STOP} and heard.tokens[0] < 24
    heard = Heard(running(), ["a"], max_tokens=3, seed=1)
    [short] = heard.wait()
    assert short and whole.startswith(short.rstrip("\ufffd")) and heard.finish == {0: LENGTH} and heard.tokens == {0: 3}


def test_the_end_of_a_document_ends_a_text(running):
    """The ngram that has counted nothing draws token 0 as often as any other."""
    heard = Heard(running("ngram"), ["a"] * 12, copies=1, max_tokens=24, seed=0)
    heard.wait()
    ended = [i for i, why in heard.finish.items() if why == STOP]
    assert ended and all(heard.tokens[i] < 24 for i in ended)


# ----- slots and the queue


@pytest.fixture
def held():
    """An engine of one slot whose steps wait until `go` is set, with what it steps through."""
    engine, go = engine_of(FAMILIES["lstm"], slots=1, queue=3, texts=4), threading.Event()
    step = engine.slots.step
    engine.start()
    engine.slots.step = lambda: (go.wait(60), step())[1]
    yield engine, go
    go.set()
    engine.close(finish=False)


def test_texts_are_served_in_the_order_in_which_they_came(held):
    engine, go = held
    order, first = [], Heard(engine, ["a"], max_tokens=4)
    first.one_more()  # it has its slot
    waiting = [Heard(engine, ["b"], max_tokens=2 + i) for i in range(3)]
    for i, each in enumerate((first, *waiting)):
        each.job.listener = lambda piece, i=i, put=each.pieces.put: (order.append(i), put(piece))
    assert (engine.running, engine.waiting) == (1, 3)
    go.set()
    for each in (first, *waiting):
        each.wait()
    assert order == sorted(order) and {0, 1, 2, 3} == {*order}


def test_a_full_queue_refuses_and_says_when_to_come_again(held):
    engine, go = held
    first = Heard(engine, ["a"], max_tokens=4)
    first.one_more()
    waiting = Heard(engine, ["b"], copies=3, max_tokens=2)
    with pytest.raises(QueueFull) as refused:
        Heard(engine, ["c"])
    assert refused.value.seconds >= 1 and engine.waiting == 3
    go.set()
    waiting.wait()
    assert Heard(engine, ["c"], max_tokens=2).wait()


def test_who_is_cancelled_leaves_the_slot_and_the_queue(held):
    engine, go = held
    first = Heard(engine, ["a"], max_tokens=24)
    first.one_more()
    gone, last = Heard(engine, ["b"], max_tokens=24), Heard(engine, ["c"], max_tokens=2)
    first.job.cancel()
    gone.job.cancel()
    go.set()
    last.wait()
    first.wait()
    gone.wait()
    assert first.finish == gone.finish == {0: CANCELLED} and first.tokens[0] < 24 and gone.tokens == {0: 0}
    assert (engine.running, engine.waiting) == (0, 0)


def test_a_text_whose_time_is_over_ends(held):
    engine, go = held
    engine.limits = dataclasses.replace(engine.limits, seconds=0.05)
    late = Heard(engine, ["a"], max_tokens=24)
    late.one_more()
    threading.Timer(0.1, go.set).start()
    late.wait()
    assert late.finish == {0: TIMEOUT} and 0 < late.tokens[0] < 24


def test_closing_finishes_what_there_is_and_takes_no_more(held):
    engine, go = held
    texts = [Heard(engine, ["a"], max_tokens=6), Heard(engine, ["b"], max_tokens=6)]
    go.set()
    engine.close()
    for each in texts:
        each.wait()
        assert each.finish == {0: LENGTH}
    with pytest.raises(Closed):
        Heard(engine, ["c"])


def test_nobody_waits_for_an_engine_that_failed(held):
    engine, go = held
    running, waiting = Heard(engine, ["a"], max_tokens=6), Heard(engine, ["b"], max_tokens=6)
    running.one_more()

    def broken():
        raise RuntimeError("the device is gone")
    engine.slots.step, engine.slots.begin = broken, lambda *_: broken()
    go.set()
    for each in (running, waiting):
        each.wait()
        assert each.finish == {0: ERROR}
    with pytest.raises(Closed, match="the device is gone"):
        Heard(engine, ["c"])


@pytest.mark.parametrize("prompts,copies,options,param", [
    (["a" * 17], 1, {}, "prompt"), (["a"], 1, {"max_tokens": 25}, "max_tokens"), (["a"], 13, {}, "n"), ([], 1, {}, "n"),
    (["a"], 1, {"stop": ("",)}, "stop"), (["a"], 1, {"temperature": -1.0}, "temperature"),
    (["a"], 1, {"top_p": 0.0}, "top_p"),
    (["a"], 1, {"top_k": 0}, "top_k"), (["a"], 1, {"max_tokens": 0}, "max_tokens")])
def test_what_can_never_be_served_is_refused_by_name(prompts, copies, options, param):
    tokens = [np.frombuffer(prompt.encode(), np.uint8).astype(np.int32) for prompt in prompts]
    with pytest.raises(ServeError) as refused:
        engine_of(FAMILIES["transformer"]).check(tokens, Options(**options), copies)
    assert refused.value.param == param


def test_learned_positions_bound_the_limits():
    family = dataclasses.replace(FAMILIES["transformer"], positions="learned")
    engine = engine_of(family, prompt_tokens=100, new_tokens=100)
    assert (engine.limits.prompt_tokens, engine.limits.new_tokens) == (31, 31)
    engine.check([np.ones(20, np.int32)], Options(max_tokens=12))
    with pytest.raises(ServeError, match="positions end at 32"):
        engine.check([np.ones(20, np.int32)], Options(max_tokens=13))

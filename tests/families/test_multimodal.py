"""One decoder of captions and images: what it sees, what its likelihoods are of, both ways of generation, sizes."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lively import call, lively, once
from numpy.testing import assert_allclose, assert_array_equal
from sources import tiny

from scaling import cost, nn
from scaling import experiment as experiments
from scaling.experiment import Experiment, Start
from scaling.families._multimodal_sample import cost_of_wrong_captions
from scaling.families.fsq import FSQ
from scaling.families.multimodal import Multimodal
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError

KEY = jax.random.key(5)
TOKENIZER = FSQ(width=8, layers=1, code_levels="7,2")
TINY = Multimodal.ladder(5e3, image_size=8, levels=16, caption=6, tokenizer=TOKENIZER)
RAW = dataclasses.replace(TINY, images="patches")
BATCH = TINY.example_batch(4, KEY)
BATCH["caption"] = jnp.asarray([[65, 66, 67, 0, 0, 0], [65, 67, 66, 68, 0, 0], [1, 2, 3, 4, 5, 6], [0] * 6])
BOTH = np.array([True, False])


def in_order(caption_first):
    """The place in the sequence of each byte and of each part of an image, [6 + 4]."""
    return np.concatenate([np.arange(6), 6 + np.arange(4)] if caption_first else [4 + np.arange(6), np.arange(4)])


def tokens_of(family, text, codes, caption_first):
    """The marker and all elements, int32 [B, 1 + n + m], as `begin` and `decode` take them."""
    codes = np.asarray(codes) + 256
    marker = np.full((len(codes), 1), family.caption_marker if caption_first else family.image_marker)
    return np.concatenate([marker, text, codes] if caption_first else [marker, codes, text], 1).astype(np.int32)


@pytest.mark.parametrize("family", [TINY, RAW], ids=["codes", "patches"])
def test_what_is_predicted_depends_on_all_that_came_before_it_in_its_order_and_on_nothing_else(family):
    """All bytes and all codes of the example differ, so that the row of a token in the table is one element."""
    params, text, codes = lively(family), jnp.asarray([[5, 9, 7, 30, 200, 6]]), jnp.asarray([[3, 1, 8, 0]])
    images = family.example_batch(1, KEY)["image"]
    patches = nn.patches(nn.levels_to_signed(images, 16), 4)

    def nats(weight, patches, first):
        model = dict(params["model"])
        model["embed"] = {"weight": model["embed"]["weight"].replace(weight)}
        seen = patches if family is RAW else codes
        with_weight = {**params, "model": type(params["model"])(model)}
        return jnp.concatenate([x[0] for x in family.nats(with_weight, text, seen, images, first)])

    jacobian = once(jax.jacrev(nats, argnums=(0, 1)))
    for first in BOTH:
        by_row, by_patch = jacobian(params["model"]["embed"]["weight"][...], patches, jnp.asarray([first]))
        rows = np.asarray(by_row)[:, np.concatenate([text[0], 256 + codes[0]]) if family is TINY else np.asarray(text[0])]
        by_image = () if family is TINY else (np.abs(np.asarray(by_patch)[:, 0]).sum(-1),)
        found = np.concatenate([np.abs(rows).sum(-1), *by_image], 1)
        places = in_order(first)
        assert_array_equal(found > 0, places[:, None] > places[None])


begin = once(functools.partial(TINY.begin, capacity=11))
decode = once(TINY.decode)


def prompted(tokens, lengths):
    """`begin` given the first `lengths` tokens of each row; one shape serves all tests."""
    return begin(lively(TINY), np.where(np.arange(11)[None] < lengths[:, None], tokens, 0), lengths)


@pytest.mark.parametrize("first", BOTH)
def test_generation_with_a_cache_gives_the_likelihood_of_the_full_pass(first):
    params = lively(TINY)
    text, codes, images = call(TINY, "read", params, BATCH)
    of_text, of_image = call(TINY, "nats", params, text, codes, images, jnp.full(4, first))
    tokens = tokens_of(TINY, text, codes, first)
    prompt = np.array([1, 3, 7, 5], np.int32)  # in the middle of either part, and at the border
    logits, state = prompted(tokens, prompt)
    nats = np.full((4, 10), np.nan)
    for step in range(10):
        rows = np.flatnonzero(prompt + step <= 10)
        scores = np.asarray(logits, np.float64)
        chances = np.exp(scores - scores.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        nats[rows, prompt[rows] + step - 1] = -np.log(chances[rows, tokens[rows, prompt[rows] + step]])
        logits, state = decode(params, state, tokens[np.arange(4), np.minimum(prompt + step, 10)])
    whole = np.concatenate([of_text, of_image] if first else [of_image, of_text], 1)
    known = ~np.isnan(nats)
    assert known.sum() == (11 - prompt).sum()
    assert_allclose(nats[known], whole[known], rtol=1e-4, atol=1e-4)


def test_samples_are_the_likeliest_tokens_of_decode_where_nothing_is_random():
    """Images of captions and captions of images, at temperature 0, also where that is traced."""
    params, tokens = lively(TINY), {}
    text, codes, _ = call(TINY, "read", params, BATCH)
    for first, count in ((True, 4), (False, 6)):
        logits, state = prompted(tokens_of(TINY, text, codes, first), np.full(4, 11 - count, np.int32))
        tokens[first] = []
        for _ in range(count):
            tokens[first].append(np.asarray(logits).argmax(1))
            logits, state = decode(params, state, tokens[first][-1].astype(np.int32))
    images = once(lambda p, batch: TINY.sample(p, batch, KEY, 0.0))(params, BATCH)
    drawn = np.stack(tokens[True], 1) - 256
    assert_array_equal(images, call(TINY.tokenizer, "decode_codes", TINY.tokens_of(params), drawn))
    captions = once(lambda p, batch, t: TINY.describe(p, batch, KEY, t))(params, BATCH, jnp.float32(0))
    assert_array_equal(captions, np.stack(tokens[False], 1))


@pytest.mark.parametrize("family", [pytest.param(TINY, marks=pytest.mark.slow), RAW], ids=["codes", "patches"])
def test_a_sample_depends_on_its_caption_or_image_and_on_the_number_of_the_example_alone(family):
    params, order = lively(family), np.array([3, 1, 0, 2])
    for method, given in (("sample", "caption"), ("describe", "image")):
        drawn = np.asarray(call(family, method, params, BATCH, KEY))
        assert drawn.shape == BATCH["image" if given == "caption" else "caption"].shape
        assert_array_equal(call(family, method, params, {k: x[order] for k, x in BATCH.items()}, KEY), drawn[order])
        other = BATCH | {given: BATCH[given][order]}
        assert (np.asarray(call(family, method, params, other, KEY)) != drawn).any()


def test_the_losses_add_up_to_the_joint_likelihood_in_either_order():
    params = lively(TINY)
    read, tokens = call(TINY, "read", params, BATCH), np.array([4, 5, 6, 1])  # ends included
    found = {name: np.asarray(x.over / x.under) for name, x in call(TINY, "evaluate", params, BATCH, KEY).items()}
    joints = []
    for share, (of_text, of_image) in {1.0: (3.0, 0.5), 0.0: (1.0, 1.0)}.items():
        nats = call(TINY, "nats", params, *read, jnp.full(4, share == 1))
        family = dataclasses.replace(TINY, share=share, text_weight=of_text, image_weight=of_image)
        loss, apart = call(family, "loss", params, BATCH, KEY)
        assert_allclose(6 * apart["loss_text"] + 4 * apart["loss_image"], sum(x.sum() for x in nats) / 4, rtol=1e-5)
        assert_allclose(10 * loss, of_text * 6 * apart["loss_text"] + of_image * 4 * apart["loss_image"], rtol=1e-5)
        said = ("loss_text", "loss_image_given_text") if share else ("loss_text_given_image", "loss_image")
        joints.append(found[said[0]] * tokens + found[said[1]] * 4)
        assert_allclose(joints[-1], sum(np.asarray(x).sum(1) for x in nats), rtol=1e-4)
    assert_allclose(found["loss"] * (tokens + 4), sum(joints) / 2, rtol=1e-4)


def test_information_is_what_the_other_modality_takes_from_the_bits_of_one():
    found = call(TINY, "evaluate", lively(TINY), BATCH, KEY)
    bits = {name: x.over / x.under for name, x in found.items()}
    assert_allclose(bits["image_information"], 64 * (bits["bits_per_dim"] - bits["bits_per_dim_given_text"]), atol=1e-3)
    whole = [found[name].over.sum() for name in ("bits_per_byte", "bits_per_byte_given_image")]
    assert_allclose(bits["text_information"].sum(), whole[0] - whole[1], rtol=1e-4)
    nats = bits["loss_image"] * 4 / math.log(2) / 64
    assert_allclose(nats + bits["distortion"], bits["bits_per_dim"], rtol=1e-5)


def test_a_wrong_caption_costs_what_the_image_is_less_likely_after_it():
    params, first = lively(TINY), jnp.full(4, True)
    cost = once(functools.partial(cost_of_wrong_captions, TINY))
    found, (text, *rest) = cost(params, BATCH)["wrong_caption"], call(TINY, "read", params, BATCH)
    right, wrong = (call(TINY, "nats", params, said, *rest, first)[1].sum(1) for said in (text, jnp.roll(text, 1, 0)))
    assert_allclose(found.over, (wrong - right) / math.log(2), atol=1e-4)
    assert found.under.all() and np.abs(found.over).max() > 1e-3
    alike = jnp.asarray([[65, 44, 9, 0, 0, 0], [65, 44, 7, 7, 7, 7], [65, 0, 0, 0, 0, 0], [65, 44, 0, 0, 0, 0]])
    assert not cost(params, {**BATCH, "caption": alike})["wrong_caption"].under.any()  # what follows a comma is no name


@pytest.mark.parametrize("images", ["codes", pytest.param("patches", marks=pytest.mark.slow)])
def test_both_orders_are_distributions_over_all_pairs(images):
    """256 captions of at most a byte, and 16 images: four codes of two, or four pixels of two levels."""
    tokenizer = FSQ(width=8, layers=1, patch=1, code_levels="2")
    family = Multimodal.ladder(5e3, image_size=2, levels=2, caption=1, images=images, tokenizer=tokenizer)
    text, codes = (x.reshape(-1, 1) for x in np.meshgrid(np.arange(256), np.arange(16), indexing="ij"))
    bits = codes >> np.arange(4) & 1
    seen = bits if images == "codes" else (2.0 * bits - 1)[..., None].astype(np.float32)
    pixels = bits.reshape(-1, 2, 2, 1).astype(np.uint8)
    for first in BOTH:
        nats = call(family, "nats", lively(family), text.astype(np.int32), seen, pixels, jnp.full(len(text), first))
        joint = sum(np.asarray(x, np.float64).sum(1) for x in nats)
        assert_allclose(np.exp(-joint).sum(), 1, rtol=1e-4)
        assert np.ptp(joint) > 1


def test_what_follows_the_end_of_a_caption_costs_nothing():
    params = lively(TINY)
    nats, _ = call(TINY, "nats", params, *call(TINY, "read", params, BATCH), jnp.asarray([True, False, True, False]))
    assert_array_equal(np.asarray(nats) > 0, [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1] * 6, [1, 0, 0, 0, 0, 0]])


def test_the_tokenizer_is_no_part_of_n_and_no_player_moves_it():
    patches = cost.param_count(RAW)["non_embedding"] - cost.param_count(TINY)["non_embedding"]
    assert cost.param_count(TINY)["non_embedding"] == cost.param_count(TINY.model)["non_embedding"]
    assert 0 < patches < 5e3 and "tokenizer" not in lively(RAW)
    assert [player.name for player in TINY.players()] == ["model"]


def test_records_hold_all_parts_and_sizes_follow_the_data_and_the_tokenizer():
    base = tiny("fsq", **{"data.levels": 16, "data.caption": 6})
    family = Multimodal.ladder(1e4, levels=16, caption=6, tokenizer=base.family)
    e = Experiment(family=family, data=base.data, optim=base.optim, start=Start(base, family.takes))
    assert experiments.from_dict(experiments.to_dict(e)) == e
    assert family.model.vocab == 256 + base.family.codes + 2 and family.model.length == 6 + 16
    larger = e.replace({"data.size": 32, "data.caption": 9})
    assert larger.family.tokenizer.image_size == 32 and larger.family.model.length == 9 + 64


@pytest.mark.parametrize("fields,says", [
    ({"text_weight": 0.0, "image_weight": 0.0}, "leave nothing to learn"),
    ({"model": Transformer(experts=4)}, "family.model.experts=4 is not for multimodal; write family.model.experts=0"),
    ({"model": TOKENIZER}, "is no Transformer"), ({"share": 1.5}, "family.share")])
def test_what_does_not_go_together_is_one_sentence(fields, says):
    with pytest.raises(ConfigError, match=says):
        dataclasses.replace(TINY, **fields)


def test_one_modality_alone_reports_nothing_of_the_other():
    image = dataclasses.replace(TINY, share=0.0, text_weight=0.0)
    text = dataclasses.replace(TINY, share=1.0, image_weight=0.0)
    bare = dataclasses.replace(TINY, caption=0)
    names = {name: set(jax.eval_shape(family.evaluate, jax.eval_shape(family.init, KEY), BATCH, KEY))
             for name, family in (("image", image), ("text", text), ("bare", bare))}
    assert names["image"] == names["bare"] == {"loss", "loss_image", "bits_per_dim", "distortion"}
    assert names["text"] == {"loss", "loss_text", "bits_per_byte"}
    drawn = jax.eval_shape(bare.sample, jax.eval_shape(bare.init, KEY), {"example": jnp.arange(3)}, KEY)
    assert drawn.shape == (3, 8, 8, 1)

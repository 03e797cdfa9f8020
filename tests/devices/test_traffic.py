"""The traffic between devices under each layout: only what the layout implies."""

import jax
import pytest
from layout_members import MESHES, language_model, member

from scaling.pods import collectives, hlo
from scaling.training.program import Program


def traffic(e, mesh):
    """{(kind, mesh axes): bytes that the collectives of one step carry}."""
    program = Program(e.replace({"data.feed": "streamed"}), None, 1, mesh, steps_per_call=1)
    text = program.lower().compile().as_text()
    found = {}
    for row in collectives.read_collectives(hlo.HloModule(text), dict(program.mesh.shape)):
        found[row.kind, row.axes] = found.get((row.kind, row.axes), 0) + row.payload
    return found


TRAFFIC_MESHES = MESHES | {"sequence": "sequence=4,data=2"}


@pytest.fixture(scope="module")
def of_batches():
    """{layout: the traffic of a batch of 16, and of 32}, each compiled once."""
    found = {}

    def get(layout):
        if layout not in found:
            found[layout] = [traffic(language_model(layout, batch), TRAFFIC_MESHES[layout]) for batch in (16, 32)]
        return found[layout]
    return get


def weight_bytes(e):
    return sum(4 * x.size for x in jax.tree.leaves(jax.eval_shape(e.family.init, jax.random.key(0))))


SMALL = 2048  # bytes: norms of gradients, losses, indices


@pytest.mark.parametrize("layout", ["data", "fsdp"])
def test_data_and_fsdp_send_parameters_and_gradients_and_no_activations(of_batches, layout):
    small, large = of_batches(layout)
    assert small.keys() == large.keys()
    for key in small:  # twice the examples give the same traffic, so it is parameters and gradients
        assert abs(large[key] - small[key]) <= SMALL, key
    kinds = {kind for (kind, _), n in small.items() if n > SMALL}
    assert kinds <= ({"all-reduce"} if layout == "data" else {"all-reduce", "all-gather", "reduce-scatter"})


def test_data_parallel_gradients_are_summed_once(of_batches):
    total, weights = sum(of_batches("data")[0].values()), weight_bytes(language_model("data", 16))
    assert weights * 0.99 <= total <= weights + SMALL


@pytest.mark.parametrize("layout", ["data", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fsdp", "tensor"))])
def test_gradients_are_summed_over_data_once_a_step_however_many_microbatches_there_are(of_batches, layout):
    def along_data(found):
        return sum(n for (_, axes), n in found.items() if "data" in axes)
    whole, e = of_batches(layout)[0], language_model(layout, 16).replace({"microbatch": 1})
    assert along_data(whole) > SMALL
    assert along_data(traffic(e, TRAFFIC_MESHES[layout])) <= 1.01 * along_data(whole) + SMALL


def test_fsdp_gathers_weights_along_its_own_axis_for_each_pass(of_batches):
    found, weights = of_batches("fsdp")[0], weight_bytes(language_model("fsdp", 16))
    gathered = {axes: n for (kind, axes), n in found.items() if kind == "all-gather"}
    assert set(gathered) == {("fsdp",)}
    assert 0.9 * weights <= gathered["fsdp",] <= 2.1 * weights  # forward, and at most again backward


def test_tensor_parallel_activations_are_summed_along_tensor_and_never_gathered(of_batches):
    small, large = of_batches("tensor")
    for (kind, along), n in small.items():
        if n <= SMALL:
            continue
        assert kind == "all-reduce", (kind, along)
        assert large[kind, along] / n == pytest.approx(2.0 if along == ("tensor",) else 1.0, abs=0.15)


def test_fsdp_and_tensor_communicate_along_their_own_axes(of_batches):
    small, large = of_batches("fsdp_tensor")
    for (kind, along), n in small.items():
        if n <= SMALL:
            continue
        grows = large[kind, along] > 1.5 * n
        assert grows == (along == ("tensor",)), (kind, along)
        assert kind != "all-gather" or along == ("fsdp",)


def test_a_divided_length_gathers_keys_and_values_and_no_other_activations(of_batches):
    small, large = of_batches("sequence")
    e = language_model("sequence", 16)
    rows, f = 16 // 2, e.family  # rows of a group of devices that share a sequence
    keys_and_values = 2 * f.layers * rows * f.length * f.kv_heads * f.head_dim * 4
    grown = {key: large.get(key, 0) - n for key, n in small.items() if large.get(key, 0) - n > SMALL}
    assert {along for _, along in grown} == {("sequence",)}
    assert grown.pop(("all-gather", ("sequence",))) == pytest.approx(keys_and_values, rel=0.01)
    assert set(grown) <= {("all-reduce", ("sequence",)), ("reduce-scatter", ("sequence",))}  # their gradients


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae", "gan"])
def test_fsdp_gathers_almost_only_parameters_in_other_families(name):
    e = member(name, "fsdp")
    small, large = (traffic(e.replace({"data.batch": batch}), MESHES["fsdp"]) for batch in (8, 16))
    assert sum(large.values()) <= 1.02 * sum(small.values())

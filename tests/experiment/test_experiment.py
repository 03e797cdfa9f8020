"""Experiments are values: dicts and configs keep them, their fingerprints are stable, and unknown fields are refused."""

import dataclasses

import jax
import pytest
from sources import tiny

from scaling import experiment as experiments
from scaling.devices.divisibility import check_divisible
from scaling.devices.layouts import make_mesh, runs_at_once
from scaling.fields import ConfigError, leaves
from scaling.training import accumulation

E = tiny("transformer")


def test_an_experiment_equals_the_one_from_its_dict_or_its_config():
    assert experiments.from_dict(experiments.to_dict(E)) == E
    config = experiments.config("transformer")
    config.family.size = 3e4
    e = experiments.from_config(config)
    assert experiments.from_dict(experiments.to_dict(e)) == e and e.family.length == config.data.length
    for path in leaves(e):
        node = config
        for part in path.split("."):
            if path not in ("family.vocab", "family.length"):  # the data set these
                node = node[part]


def test_a_config_overrides_the_fields_of_the_ladder():
    config = experiments.config("transformer")
    config.family.layers, config.data.tokenizer = 7, "bpe:512"
    e = experiments.from_config(config)
    assert e.family.layers == 7 and e.family.vocab == 512


@pytest.mark.parametrize("path,near", [
    ("optim.learning_rat", "learning_rate"), ("optm.clip", "optim"), ("family.widht", "width")])
def test_an_unknown_field_is_refused_with_the_nearest(path, near):
    with pytest.raises(ConfigError, match=near):
        E.replace({path: 1})


@pytest.mark.parametrize("changes,said", [
    ({"data.tokens": 5}, "data.tokens=5"), ({"data.batch": 0}, "data.batch"), ({"optim.schedule": "cos"}, "cosine"),
    ({"data.feed": "stream"}, "streamed"), ({"optim.learning_rate": -1.0}, "learning_rate")])
def test_values_that_cannot_run_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        experiments.validate(E.replace(changes))


def test_fingerprints_do_not_depend_on_how_numbers_are_written():
    integer, decimal = E.replace({"optim.clip": 1}), E.replace({"optim.clip": 1.0})
    assert experiments.fingerprint(integer, "d") == experiments.fingerprint(decimal, "d")
    assert experiments.fingerprint(E, "d") != experiments.fingerprint(E, "other data")
    other = dataclasses.replace(E.family, width=E.family.width * 2)
    assert experiments.fingerprint(E.replace({"family": other}), "d") != experiments.fingerprint(E, "d")


def test_meshes_use_all_devices_and_sizes_that_do_not_divide_are_refused():
    def sizes(*arguments):
        return {axis: n for axis, n in make_mesh(*arguments).shape.items() if n > 1}

    assert sizes(4) == {"run": 4, "data": 2} and sizes(1) == {"data": 8}
    assert dict(make_mesh(1, layout="fsdp").shape)["fsdp"] == 8
    asked = {("", "data"): 8, ("data=4", "data"): 2, ("", "run"): 8, ("run=2", "fsdp"): 2, ("run=-1,data=4", "data"): 2,
             ("", "fsdp"): 1, ("fsdp=4", "fsdp"): 2, ("tensor=2", "fsdp_tensor"): 1, ("data=-1,fsdp=2", "fsdp"): 1}
    for (mesh, layout), runs in asked.items():
        assert runs_at_once(8, mesh, layout) == runs == make_mesh(runs, mesh, layout).shape["run"]
    assert dict(make_mesh(1, "data=2,tensor=-1").shape)["tensor"] == 4
    for text, said in (("data=3", "multiple of 3"), ("dta=2", "data"), ("data=x", "data=4"), ("data=2", "data=-1")):
        with pytest.raises(ConfigError, match=said):
            make_mesh(1, text)
    with pytest.raises(ConfigError, match="fsdp_tensor"):
        make_mesh(1, layout="fsdp_tensr")
    with pytest.raises(ConfigError, match="data.batch=16 or 8"):
        check_divisible(E.replace({"data.batch": 12}), make_mesh(1))
    odd = dataclasses.replace(E.family, width=20, head_dim=10, heads=2, mlp=50)
    with pytest.raises(ConfigError, match="replicated"):
        check_divisible(E.replace({"family": odd, "layout": "tensor"}), make_mesh(1, "tensor=4,data=2"))


def test_the_microbatch_divides_follows_the_cache_and_has_two_examples_at_least(monkeypatch):
    mesh = make_mesh(1, devices=jax.devices()[:1])
    assert accumulation.accumulation_steps(E.replace({"microbatch": 2}), mesh, 1) == 4
    with pytest.raises(ConfigError, match="1, 2, 4, 8"):
        accumulation.accumulation_steps(E.replace({"microbatch": 3}), mesh, 1)
    each = accumulation.activation_bytes(E.family)
    for fit, steps in ((0.5, 4), (1, 4), (2, 4), (3, 4), (4, 2), (5, 2), (8, 1), (100, 1)):
        monkeypatch.setattr(accumulation, "CPU_CACHE", fit * each)
        assert accumulation.accumulation_steps(E, mesh, 1) == steps
    assert accumulation.activation_bytes(dataclasses.replace(E.family, layers=8)) > each


NEEDED = {"data.dirty": {"data.noise": 0.1}, "data.sample_length": {"data.samples": 64},
          "data.temperature": {"data.samples": 64}}  # fields that say nothing without others


def test_knobs_are_arguments_of_the_program_and_all_other_fields_are_part_of_it():
    for path, (value, kind) in leaves(E).items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        another = value * 2 or {"microbatch": 4}.get(path, 16) if isinstance(value, int) else value / 2 or 0.5
        base = E.replace(NEEDED.get(path, {}))
        other = base.replace({path: another}) if not path.startswith("family") else None
        if other is not None:
            assert (experiments.program_key(other) == experiments.program_key(base)) == (kind == "knob"), path
            assert (experiments.fingerprint(other, "d") == experiments.fingerprint(base, "d")) == (kind == "how"), path

"""Values of fields: numbers of every library are one value, ranges hold on every path, and wrong ones get one sentence."""

import dataclasses
import decimal
import fractions
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import tiny

from scaling import experiment as experiments
from scaling import families
from scaling.experiment import Experiment, Images, Optim, Text, chain, grid, zipped
from scaling.fields import ConfigError, leaves, python_value
from scaling.store import files

E = tiny("transformer")
CLASSES = (Experiment, Optim, Text, Images, *families.all())
PARTS = ("family", "data", "optim", "start")
DECLARED = [(cls, f) for cls in CLASSES for f in dataclasses.fields(cls) if f.name not in PARTS]


@pytest.mark.parametrize("cls,f", DECLARED, ids=[f"{cls.__name__}.{f.name}" for cls, f in DECLARED])
def test_every_field_declares_its_range_and_its_default_is_inside(cls, f):
    limits = f.metadata["limits"]
    if f.type in (int, float) or f.type == int | None:
        assert limits.text or limits.choices
        assert f.default is None or limits.choices or limits.hold(f.default)
    if limits.choices:
        assert f.default in limits.choices


SAME = [("data.tokens", 4096, [np.int64(4096), np.uint16(4096), np.float64(4096), jnp.int32(4096), np.array(4096), 4096.0,
                               fractions.Fraction(4096), decimal.Decimal(4096)]),
        ("seed", 3, [np.int8(3), jnp.uint32(3), 3.0]),
        ("optim.learning_rate", 1e-3, [np.float64(1e-3), np.float32(1e-3), np.float16(1e-3), jnp.float32(1e-3),
                                       jnp.bfloat16(1e-3), decimal.Decimal("0.001"), fractions.Fraction(1, 1000)]),
        ("optim.clip", 1.0, [1, np.int32(1), np.float32(1)]),
        ("data.tokenizer", "bytes", [np.str_("bytes")]), ("data.data_dir", "/data", [pathlib.PurePosixPath("/data")]),
        ("family.tied", True, [np.bool_(True), jnp.bool_(True)])]


@pytest.mark.parametrize("path,value,others", SAME, ids=[path for path, *_ in SAME])
def test_equal_values_are_one_run_whatever_library_they_come_from(path, value, others):
    plain = E.replace({path: value})
    back = experiments.from_dict(files.loads(files.dumps(experiments.to_dict(plain))))
    for e in [*grid(E, {path: others}), *zipped(E, {path: others}), back]:
        assert e == plain and experiments.fingerprint(e, "d") == experiments.fingerprint(plain, "d")
        assert type(leaves(e)[path][0]) is type(value)
    assert chain(grid(E, {path: others}), [plain]) == [plain]


@pytest.mark.parametrize("cls", families.all(), ids=families.name)
def test_members_of_a_ladder_depend_on_the_value_of_a_size_alone(cls):
    size = cls.sizes()[1]
    members = {cls.ladder(kind(size)) for kind in (float, np.float64, np.float32, jnp.float32)}
    assert len(members) == 1 and all(type(v) in (int, float, bool, str) for v, _ in leaves(members.pop()).values())


def test_a_number_of_lower_precision_is_the_shortest_decimal_that_it_stands_for():
    for dtype in (np.float16, np.float32, jnp.bfloat16):
        for x in (1e-3, 3e-4, 0.1, 1 / 3, 12.5, 65504 / 3):
            found = python_value(jnp.dtype(dtype).type(x))
            assert jnp.dtype(dtype).type(found) == jnp.dtype(dtype).type(x) and len(repr(found)) <= 12
    assert python_value(np.float64(1 / 3)) == 1 / 3 and math.isnan(python_value(np.float32("nan")))


def test_knobs_may_be_traced():
    def rate(x):
        e = E.replace({"optim.learning_rate": x, "seed": jnp.int32(x)})
        assert isinstance(e.seed, jax.core.Tracer)
        return e.optim.learning_rate * 2
    assert float(jax.jit(rate)(0.5)) == 1.0


WRONG = [
    ("optim.cooldown", 200, "a share of all steps, not a number of steps"), ("optim.cooldown", -0.2, "from 0 to 1"),
    ("optim.floor", 2.0, "share of the peak"), ("optim.ema", 1.0, "below 1"), ("optim.ema", 1 - 1e-12, "below 1"),
    ("optim.beta1", 1.0, "below 1"), ("optim.clip", -1.0, "at least 0"), ("optim.weight_decay", -0.1, "at least 0"),
    ("optim.learning_rate", -1.0, "above 0"), ("optim.learning_rate", 1e-60, "so small that float32"),
    ("optim.learning_rate", "1e-3", "is text; write a number"), ("optim.warmup", 5000, "steps of data.tokens"),
    ("optim.epsilon", 0.0, "above 0"), ("optim.schedule", "cos", "cosine"), ("optim.name", "adamq", "adamw"),
    ("seed", True, "is True or False; write a whole number"), ("seed", -1, "from 0"), ("seed", 2**32, "from 0"),
    ("seed", 1.5, "is not whole"), ("microbatch", 3, "write one of 1, 2, 4, 8"), ("layout", "fdsp", "fsdp"),
    ("data.tokens", 5, "less than one step of 128 tokens"), ("data.tokens", [1024], "a list"), ("data.batch", 0, "from 1"),
    ("data.length", None, "is empty"), ("data.evaluation_tokens", 8, "one sequence"), ("data.tokenizer", "bpe:5", "258"),
    ("data.feed", "stream", "streamed"), ("family.activation", "gleu", "gelu"), ("family.dtype", "bf16", "bfloat16"),
    ("family.kv_heads", 3, "must divide family.heads=1"), ("family.layers", 0, "from 1"),
    ("family", "transformer", "is no family"), ("data", Images(), "is no Text"), ("optim.lerning_rate", 1, "learning_rate"),
]


@pytest.mark.parametrize("path,value,said", WRONG, ids=[f"{path}={value!r:.20}" for path, value, _ in WRONG])
def test_a_wrong_value_is_refused_by_name_on_every_path(path, value, said):
    for change in (lambda: E.replace({path: value}), lambda: grid(E, {path: [value]}), lambda: zipped(E, {path: [value]})):
        with pytest.raises(ConfigError, match=said) as caught:
            change()
        assert "\n" not in str(caught.value) and path.rpartition(".")[2][:5] in str(caught.value)


@pytest.mark.parametrize("cls,f", [(c, f) for c, f in DECLARED if f.type in (int, float)],
                         ids=[f"{c.__name__}.{f.name}" for c, f in DECLARED if f.type in (int, float)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), 1e39])
def test_no_field_takes_what_is_not_a_finite_float32(cls, f, value):
    base = {Experiment: E, Optim: E.optim, Text: Text(), Images: Images()}.get(cls)
    with pytest.raises(ConfigError, match=f"{f.name}="):
        if base is None:
            cls.ladder(cls.sizes()[0], **{f.name: value})
        elif cls is Experiment:
            E.replace({f.name: value})
        else:
            part = "optim" if cls is Optim else "data"
            tiny("transformer" if cls is not Images else "vae").replace({f"{part}.{f.name}": value})


@pytest.mark.parametrize("values,said", [
    ({"seed": []}, "'seed' has no values"), ({"seed": np.array([])}, "no values"), ({"seed": 3}, r"write \[3\]"),
    ({"optim.name": "adamw"}, r"write \['adamw'\]"), ({"optm.clip": [1]}, "nearest: optim"), ([1], "takes the values")])
def test_a_sweep_without_values_is_refused(values, said):
    for sweep in (grid, zipped):
        with pytest.raises(ConfigError, match=said):
            sweep(E, values)
    with pytest.raises(ConfigError, match="where: no part 'dat' .*nearest: data"):
        experiments.where([E], dat=lambda data: True)
    with pytest.raises(ConfigError, match="a sweep is made of experiments"):
        grid([3], {"seed": [1]})


def test_fields_of_the_family_follow_the_data():
    e = Experiment().replace({"data.length": 32, "data.tokenizer": "bpe:300"})
    assert (e.family.length, e.family.vocab) == (32, 300)
    assert [e.family.length for e in grid(Experiment(), {"data.length": [16, 64]})] == [16, 64]
    assert tiny("vae").replace({"data.size": 8, "data.levels": 2}).family.image_size == 8


def test_what_a_config_writes_is_checked_and_unknown_fields_are_named():
    config = experiments.config("transformer")
    for path, value, said in [("optim.cooldown", 2.0, "optim.cooldown=2.0"), ("data.foo", 1, "no field data.foo"),
                              ("family.heads", 3, "family.heads=3"), ("family.size", 1.0, "sizes from 4000"),
                              ("family.name", "gan", "experiment.config"), ("family.name", "transfomer", "transformer"),
                              ("seed", -3, "seed=-3")]:
        wrong = config.copy_and_resolve_references()
        node, _, leaf = path.rpartition(".")
        with wrong.unlocked():
            (wrong[node] if node else wrong)[leaf] = value
        with pytest.raises(ConfigError, match=said):
            experiments.from_config(wrong)

"""tools.inspect_checkpoint and tools.average_checkpoints give back what was planted, and refuse what is wrong
in one sentence.

Both run in one Python of their own (`command`): their flags have the names of other commands'."""
import dataclasses
import functools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest

from scaling import cost, families
from scaling import experiment as experiments
from scaling.families.transformer import Transformer
from scaling.store import checkpoint, files

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is run from a checkout and not installed
from tools import _checkpoints  # noqa: E402
from tools import _checkpoints_across as across
from tools import _checkpoints_measure as measure

TINY = Transformer(vocab=16, length=8, width=8, layers=2, heads=2)
SERVER = """
import contextlib, io, json, sys
from absl import flags
from absl.testing import flagsaver
from tools import _checkpoints, average_checkpoints, inspect_checkpoint
for line in sys.stdin:
    tool, *arguments = json.loads(line)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), flagsaver.flagsaver():
        try:
            main = {"inspect": inspect_checkpoint, "average": average_checkpoints}[tool].main
            _checkpoints._run(main, _checkpoints._parse([tool, *arguments]))
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def command():
    """command("inspect", "--checkpoint=...") -> (exit status, standard output, standard error)."""
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        def call(*arguments):
            process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        yield call
        process.stdin.close()


def refused(result, *parts, code=1):
    """That a command ended with one sentence that has all `parts`."""
    assert result[0] == code, result
    # what the reader of a torn array prints when it is thrown away, some calls later, is not the command's
    said = [line for line in result[2].splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and result[2].endswith(f"{said[0]}\n"), result[2]
    for part in parts:
        assert str(part) in said[0]
    return True


def experiment(family=TINY, **changes):
    return experiments.Experiment(family=family).replace(changes)


@functools.cache
def shapes(family) -> dict:
    abstract = jax.eval_shape(family.init, jax.random.key(0))
    return {name: variable.shape for name, variable in _checkpoints._variables(abstract)}


def drawn(family=TINY, seed=0, scale=1.0) -> dict:
    """Random arrays by path, of the shapes of a family's parameters."""
    rng = np.random.default_rng(seed)
    return {name: np.float32(scale * rng.standard_normal(shape)) for name, shape in shapes(family).items()}


def nested(arrays) -> dict:
    tree = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree


def save(directory, arrays, meta, *steps):
    saved = checkpoint.Checkpoints(directory, keep=5)
    for step in steps or (10,):
        saved.save(step, {"params": nested(arrays(step) if callable(arrays) else arrays)}, meta)
    saved.close()
    return directory


def of(run) -> dict:
    return {"experiment": experiments.to_dict(run)}


def weights(family, arrays):
    run = experiment(family)
    return _checkpoints.Weights("here", 1, run, arrays, _checkpoints._names(run, arrays, "here"))


# ---------------------------------------------------------------------------------------- measures


def orthogonal(size, rng):
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def test_planted_singular_values_come_back_from_every_layer_and_fold():
    rng, values = np.random.default_rng(0), np.array([[8.0, 4.0, 2.0], [5.0, 5.0, 5.0]])
    layers = np.stack([orthogonal(6, rng)[:, :3] * v @ orthogonal(3, rng) for v in values])
    for names, shape in ((("layers", "heads", "head_dim", "embed"), (2, 2, 3, 3)),
                         (("layers", "kernel_height", "kernel_width", "channels_in", "channels_out"),
                          (2, 1, 2, 3, 3))):
        found = measure.pieces("model/out/weight", layers.reshape(shape), names)
        assert [layer for layer, _ in found] == [0, 1] and found[0][1].shape == (6, 3)
        for (_, matrix), planted in zip(found, values):
            s = measure.spectrum(matrix)
            np.testing.assert_allclose(s["singular_values"], planted, rtol=1e-12)
            assert [s["sigma_max"], s["sigma_min"]] == pytest.approx([planted[0], planted[-1]])
            assert s["stable_rank"] == pytest.approx((planted**2).sum() / planted[0]**2)
            share = planted / planted.sum()
            assert s["effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
            assert s["gain"] == pytest.approx(planted[0] / np.sqrt(3 / 6))
    wide = measure.pieces("model/q/weight", layers.swapaxes(1, 2).reshape(2, 3, 2, 3),
                          ("layers", "embed", "heads", "head_dim"))
    assert wide[1][1].shape == (3, 6) and measure.spectrum(wide[1][1])["effective_rank"] == pytest.approx(3)


def test_layers_are_found_wherever_they_are_stacked():
    array = np.random.default_rng(0).standard_normal((4, 2, 3, 5))
    found = measure.pieces("gen/styles/weight", array, ("latent", "layers", "style", "embed"))
    np.testing.assert_array_equal(found[1][1], array[:, 1].reshape(4, 15))
    assert measure.kind("gen/styles/weight", ("latent", "layers", "style", "embed")) == "latent → style embed"
    assert measure.kind("x/k/weight", ("layers", "embed", "kv_heads", "head_dim")) == "embed → heads"
    assert measure.kind("x/q/bias", ("layers", "heads", "head_dim")) == measure.VECTORS


def test_matrices_that_are_zero_or_not_finite_have_no_spectrum():
    zero, broken = measure.spectrum(np.zeros((3, 2))), measure.spectrum(np.array([[1.0, np.nan], [0.0, 1.0]]))
    assert zero["sigma_max"] == 0 and np.isnan(zero["stable_rank"]) and np.isnan(zero["effective_rank"])
    assert np.isnan(broken["singular_values"]).all() and np.isnan(broken["stable_rank"])


@pytest.mark.parametrize("family", [
    TINY, families.find("vae").ladder(1e4), families.find("gan").ladder(1e4),
    families.find("gan").ladder(1e4, body="dcgan")], ids=["transformer", "vae", "gan", "gan-dcgan"])
def test_counts_are_those_of_cost_and_norms_those_of_numpy(family):
    arrays = drawn(family)
    frame = measure.rows(weights(family, arrays))
    counts = cost.param_count(family)
    assert frame["parameters"].sum() == counts["total"]
    assert {row["axes"]: row["parameters"] for row in measure.by_axes(frame)} == counts["by_axes"]
    modules = {row["module"]: row for row in measure.by_module(frame, 9)}
    for player, count in counts["by_player"].items():
        assert modules[player]["parameters"] == count
    for name, row in modules.items():
        inside = [array for path, array in arrays.items() if f"{path}/".startswith(f"{name}/")]
        norm = np.sqrt(sum(np.float64(np.vdot(array, array)) for array in inside))
        assert row["norm"] == pytest.approx(norm, rel=1e-5)


# --------------------------------------------------------------------------------- one and two checkpoints


def test_distance_is_from_the_initialisation_of_the_experiments_own_seed(command, tmp_path):
    run = experiment(seed=3)
    start = _checkpoints.initial(run)
    still = save(tmp_path / "still", start, of(run))
    moved = save(tmp_path / "moved", {name: np.float32(1.25 * x) for name, x in start.items()}, of(run))
    other = save(tmp_path / "other", start, of(experiment(seed=4)))
    for path, expected in ((still, 0), (moved, 0.25), (other, None)):
        code, out, err = command("inspect", f"--checkpoint={path}", f"--output={tmp_path / 'out'}")
        assert code == 0, err
        arrays = pd.read_csv(tmp_path / "out" / "arrays.csv")
        if expected is None:
            assert (arrays.loc[arrays["kind"] != "vectors", "update"] > 0.9).all()
        else:
            np.testing.assert_allclose(arrays["update"], expected, atol=1e-6)
            np.testing.assert_allclose(arrays["cosine"], 1, atol=1e-6)
    assert f"{cost.param_count(TINY)['total']:,} parameters" in out and "layers embed heads head_dim" in out
    tables = files.read_json(tmp_path / "out" / "weights.json")
    mine = next(row for row in tables["arrays"]
                if (row["path"], row["layer"]) == ("model/layers/mlp/up/weight", 1))
    expected = np.linalg.svd(np.float64(start["model/layers/mlp/up/weight"][1]), compute_uv=False)
    np.testing.assert_allclose(mine["singular_values"], expected, rtol=1e-6)


def test_two_steps_of_one_run_are_compared_most_different_first(command, tmp_path):
    first = drawn()

    def at(step):
        return first | {"model/readout/weight": first["model/readout/weight"] * np.float32(1 + step / 100)}

    path = save(tmp_path / "run", at, of(experiment()), 0, 50)
    code, out, err = command("inspect", f"--checkpoint={path / '0'}", f"--against={path / '50'}", "--rows=2",
                             f"--output={tmp_path / 'out'}")
    assert code == 0, err
    rows = pd.read_csv(tmp_path / "out" / "modules.csv")
    assert rows["module"][1] == "model/readout" and rows["update"][1] == pytest.approx(0.5, rel=1e-6)
    assert (rows["update"][2:] == 0).all() and np.allclose(rows["cosine"][1:], 1) and rows["cosine"][0] < 1
    assert "one run, 50 steps apart" in out and "modules that differ less" in out
    assert f"ratio is {rows['update'][0]:.3f}, {rows['update'][0] / 50:.5f} a step" in out
    other = save(tmp_path / "other", at(0), of(experiment(**{"optim.learning_rate": 0.5})))
    assert "two runs: optim.learning_rate is 0.004 in one, 0.5 in the other" in command(
        "inspect", f"--checkpoint={path}", f"--against={other}")[1]


def test_a_run_of_a_pack_is_chosen_by_its_number(command, tmp_path):
    runs = [experiment(seed=seed) for seed in range(3)]
    packed = {name: np.stack([drawn(seed=seed)[name] for seed in range(3)]) for name in drawn()}
    meta = {"experiments": [experiments.to_dict(run) for run in runs]}
    path = save(tmp_path / "pack" / "trunk", packed, meta)
    found = _checkpoints.read(path, run=2)
    assert found.experiment == runs[2]
    for name, array in drawn(seed=2).items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert refused(command("inspect", f"--checkpoint={path}"), "3 runs", "seed from 0 to 2", "--run, 0 to 2")
    assert refused(command("inspect", f"--checkpoint={path}", "--run=3"), "--run, 0 to 2")
    assert refused(command("inspect", f"--checkpoint={path.parent}"), path)


def test_weights_of_unknown_origin_are_measured_without_names(command, tmp_path):
    path = save(tmp_path / "x", {"model/w": np.diag(np.float32([3, 4])), "model/b": np.float32([np.inf])}, {})
    code, out, err = command("inspect", f"--checkpoint={path}")
    assert code == 0, err
    assert "5 parameters" in out and "1 of them are not finite, the first in model/b" in out
    assert "does not say its experiment" in out and "axis0 axis1" in out


# ------------------------------------------------------------------------------------------ across sizes


@pytest.fixture(scope="module")
def ladder():
    return [dataclasses.replace(TINY, width=width, heads=2, kv_heads=None, head_dim=None, mlp=None)
            for width in (8, 16, 32)]


def test_planted_powers_of_size_come_back_as_table_and_figure(command, tmp_path, ladder):
    counts = [cost.param_count(family)["non_embedding"] for family in ladder]
    for family, n in zip(ladder, counts):
        ones = {name: np.full(shape, n**-0.25, np.float32) for name, shape in shapes(family).items()}
        save(tmp_path / "all" / f"w{family.width}", ones, of(experiment(family)))
    code, out, err = command("inspect", f"--checkpoints={tmp_path / 'all' / '*'}", "--noinitial",
                             f"--output={tmp_path / 'out'}")
    assert code == 0, err
    models, powers = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("models", "powers"))
    assert models["params_non_embedding"].tolist() == counts and models["checkpoint"].str.endswith("w8")[0]
    np.testing.assert_allclose(powers["rms"], -0.25, atol=1e-6)
    matrices = powers[powers["kind"] != "vectors"]
    assert len(matrices) == 6 and np.allclose(matrices["stable_rank"], 0, atol=1e-6)
    assert (tmp_path / "out" / "across.png").read_bytes().startswith(b"\x89PNG")


def test_of_a_study_the_best_run_of_each_size_is_read(tmp_path, ladder):
    for family in ladder[:2]:
        for rate, loss in ((0.1, 2.0), (0.2, 1.0), (0.4, 3.0)):
            run, name = experiment(family, **{"optim.learning_rate": rate}), f"{family.width}-{rate}"
            record = {"fingerprint": name, "role": "sweep", "loss": loss, "learning_rate": rate, "seed": 0,
                      "params_non_embedding": cost.param_count(family)["non_embedding"], "diverged": False,
                      "weight_decay": 0.1, "tokens_seen": 100, "tokens_unique": 100} | of(run)
            files.atomic_write(tmp_path / "records" / f"{name}.jsonl", files.dumps(record) + "\n")
            (tmp_path / "params" / name).mkdir(parents=True)
    with pytest.raises(_checkpoints.CheckpointsError, match="no study.json"):
        across.best(tmp_path, None)
    with pytest.raises(_checkpoints.CheckpointsError, match="no metric 'lss'.*loss"):
        across.best(tmp_path, "lss")
    files.write_json(tmp_path / "study.json", {"metric": "loss"})
    found = across.best(tmp_path, None)
    assert [path.name for path, _ in found] == ["8-0.2", "16-0.2"]
    assert found[0][1] == {"data": 100, "loss": 1.0}


# ------------------------------------------------------------------------------------------- averages


def test_the_average_is_numpys_and_the_package_reads_it_back(command, tmp_path):
    parts = [drawn(seed=seed) for seed in range(2)]
    for seed, arrays in enumerate(parts):
        save(tmp_path / f"s{seed}", arrays, of(experiment(seed=seed)))
    before = {p: p.read_bytes() for p in (tmp_path / "s0").rglob("*") if p.is_file()}
    ask = ["average", f"--checkpoints={tmp_path / 's*'}"]
    code, out, err = command(*ask, f"--output={tmp_path / 'mean'}")
    assert code == 0, err
    norms = [np.sqrt(sum(np.vdot(x, x) for name, x in part.items() if name.endswith("weight"))) for part in
             (*parts, {name: np.mean([part[name] for part in parts], 0) for name in parts[0]})]
    assert f"{norms[2] / np.mean(norms[:2]):.3f} of that of its parts'" in out
    assert norms[2] / norms[0] == pytest.approx(0.5**0.5, rel=0.1)
    read = dict(_checkpoints._flat(checkpoint.restore_params(tmp_path / "mean")))
    for name, array in read.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.mean([part[name] for part in parts], 0))
    abstract = {"params": jax.eval_shape(TINY.init, jax.random.key(0))}
    params, meta = checkpoint.Checkpoints(tmp_path / "mean").restore(None, abstract)
    scale = params["params"]["model"]["norm"]["scale"].get_value()
    np.testing.assert_array_equal(scale, read["model/norm/scale"])
    assert [part["share"] for part in meta["averaged"]] == [0.5, 0.5]
    assert command(*ask, "--coefficients=1,3", f"--output={tmp_path / 'weighted'}")[0] == 0
    for name, array in _checkpoints.read(tmp_path / "weighted").arrays.items():
        np.testing.assert_allclose(array, 0.25 * parts[0][name] + 0.75 * parts[1][name], rtol=1e-6, atol=1e-7)
    again = command(*ask, f"--output={tmp_path / 's0'}")
    assert refused(again, "exists, and weights are never overwritten")
    assert {p: p.read_bytes() for p in (tmp_path / "s0").rglob("*") if p.is_file()} == before


def test_the_last_steps_of_a_run_are_averaged(command, tmp_path):
    def at(step):
        return {name: np.full(shape, step, np.float32) for name, shape in shapes(TINY).items()}

    path = save(tmp_path / "run", at, of(experiment()), 1, 4, 8)
    assert command("average", f"--checkpoints={path}", "--last=2", f"--output={tmp_path / 'mean'}")[0] == 0
    found = _checkpoints.read(tmp_path / "mean")
    assert found.step == 8 and all((array == 6).all() for array in found.arrays.values())
    result = command("average", f"--checkpoints={path}", "--last=4", f"--output={tmp_path / 'no'}")
    assert refused(result, "3 steps, fewer than --last=4")


def test_what_cannot_be_averaged_is_refused_and_nothing_written(command, tmp_path, ladder):
    one = save(tmp_path / "one", drawn(), of(experiment()))
    others = {
        "wide": (drawn(ladder[1]), of(experiment(ladder[1])), "'model/embed/weight' is float32[16, 8]"),
        "batch": (drawn(), of(experiment(**{"data.batch": 7})), "data.batch is "),
        "lacks": ({"model/embed/weight": drawn()["model/embed/weight"]}, {}, "lacks 'model/layers/attention"),
        "nan": ({name: x * np.nan for name, x in drawn().items()}, of(experiment()), "not finite everywhere"),
    }
    for name, (arrays, meta, said) in others.items():
        other = save(tmp_path / name, arrays, meta)
        result = command("average", f"--checkpoints={one},{other}", f"--output={tmp_path / 'no'}")
        assert refused(result, said, other)
    ask = ("average", f"--output={tmp_path / 'no'}")
    assert refused(command(*ask, f"--checkpoints={one}"), "its own average")
    twice = (*ask, f"--checkpoints={one},{one}")
    assert refused(command(*twice, "--coefficients=1"), "1 number for 2 checkpoints")
    assert refused(command(*twice, "--coefficients=1,-1"), "positive", code=2)
    assert refused(command("average", f"--checkpoints={one},{one}"), "--output", code=2)
    assert not (tmp_path / "no").exists()


# ---------------------------------------------------------------------------------------- hostile inputs


def test_paths_that_are_no_checkpoint_are_refused_in_one_sentence(command, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    save(tmp_path / "study" / "params" / "aa", drawn(), of(experiment()))
    torn = save(tmp_path / "torn", drawn(), of(experiment()))
    for path in torn.rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:20])
    lying = save(tmp_path / "lying", drawn(), of(experiment(family=dataclasses.replace(TINY, layers=3))))
    future = save(tmp_path / "future", drawn(), {"experiment": {"family": {"name": "oracle"}}})
    output = f"--output={tmp_path / 'out'}"
    for name, said in (("missing", "no directory"), ("file", "no directory"),
                       ("empty", "holds no checkpoint"), ("study", tmp_path / "study" / "params" / "aa"),
                       ("lying", "differs"),
                       ("future", "not one that this version knows")):
        assert refused(command("inspect", f"--checkpoint={tmp_path / name}", output), said)
    code, _, err = command("inspect", f"--checkpoint={torn}", output)
    assert code == 1 and "is torn" in err and "error: no checkpoint that can be read" in err
    assert refused(command("inspect", f"--workdir={tmp_path / 'missing'}", output), "not a directory")
    assert refused(command("inspect", f"--workdir={tmp_path / 'study'}", output), "no finished runs")
    assert refused(command("inspect", f"--checkpoints={tmp_path}/none*", output), "nothing matches")
    assert refused(command("inspect", f"--checkpoint={lying}", f"--against={future}", output), "differs")
    assert not (tmp_path / "out").exists()


def test_wrong_flags_exit_with_two(command, tmp_path):
    for arguments, said in (([], "name what to read"), (["--against=x"], "name what to read"),
                            (["--checkpoint=a", "--workdir=b"], "one of"),
                            (["--metric=m", "--checkpoint=a"], "--metric"),
                            (["--workdir=a", "--against=b"], "--checkpoint=A"),
                            (["--chekpoint=a"], "chekpoint"), (["a"], "unexpected argument 'a'"),
                            (["--depth=-1", "--checkpoint=a"], "depth")):
        assert refused(command("inspect", *arguments), said, code=2)


def test_directories_are_found_in_a_bucket(monkeypatch):
    """gs:// served from memory, through the fsspec backend that epath uses where there is no TensorFlow."""
    backend = pytest.importorskip("etils.epath.backend")
    memory = pytest.importorskip("fsspec.implementations.memory")

    class Bucket(memory.MemoryFileSystem):
        protocol, root_marker, cachable = "gs", "", False
        store, pseudo_dirs = {}, [""]

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(str(path).removeprefix("gs://"))

    bucket = Bucket()
    monkeypatch.setattr(backend._FileSystemSpecBackend, "fs", lambda self, path: bucket)
    for step in (9, 10):
        bucket.pipe_file(f"gs://b/study/params/aa/{step}/state/x", b"")
    assert [path.name for path in _checkpoints.steps("gs://b/study/params/aa")] == ["9", "10"]
    directory, step = _checkpoints.locate("gs://b/study/params/aa/9")
    assert (str(directory), step) == ("gs://b/study/params/aa", 9)
    with pytest.raises(_checkpoints.CheckpointsError, match="workdir and not a checkpoint.*params/aa"):
        _checkpoints.locate("gs://b/study")
    assert _checkpoints.expand(["gs://b/study/params/*"]) == ["gs://b/study/params/aa"]

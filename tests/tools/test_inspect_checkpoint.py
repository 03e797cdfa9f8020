"""tools.inspect_checkpoint gives back what was planted, and refuses what is wrong in one sentence."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from checkpoint_tools import TINY, drawn, experiment, of, refused, save, shapes

from scaling import cost
from scaling import experiment as experiments
from scaling.store import files
from tools import _checkpoints
from tools import _checkpoints_across as across

# ----- one and two checkpoints


def test_distance_is_measured_from_the_initialisation_of_the_experiments_seed(command, tmp_path):
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


def test_modules_of_two_steps_are_listed_with_the_most_different_first(command, tmp_path):
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
    assert f"ratio is {rows['update'][0]:.3f}, {rows['update'][0] / 50:.5f} per step" in out
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


def test_weights_without_an_experiment_are_measured_without_names_of_axes(command, tmp_path):
    path = save(tmp_path / "x", {"model/w": np.diag(np.float32([3, 4])), "model/b": np.float32([np.inf])}, {})
    code, out, err = command("inspect", f"--checkpoint={path}")
    assert code == 0, err
    assert "5 parameters" in out and "1 of them are not finite; the first is in model/b" in out
    assert "does not say its experiment" in out and "axis0 axis1" in out


# ----- across sizes


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


def test_the_best_run_of_each_size_of_a_study_is_read(tmp_path, ladder):
    for family in ladder[:2]:
        for rate, loss in ((0.1, 2.0), (0.2, 1.0), (0.4, 3.0)):
            run, name = experiment(family, **{"optim.learning_rate": rate}), f"{family.width}-{rate}"
            record = {"fingerprint": name, "role": "sweep", "family": "transformer", "loss": loss,
                      "learning_rate": rate, "seed": 0,
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


# ----- wrong input


def test_paths_without_a_checkpoint_are_refused_in_one_sentence(command, tmp_path):
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
                       ("future", "does not know the experiment")):
        assert refused(command("inspect", f"--checkpoint={tmp_path / name}", output), said)
    code, _, err = command("inspect", f"--checkpoint={torn}", output)
    assert code == 1 and "is torn" in err and "error: no readable checkpoint" in err
    assert refused(command("inspect", f"--workdir={tmp_path / 'missing'}", output), "not a directory")
    assert refused(command("inspect", f"--workdir={tmp_path / 'study'}", output), "no finished runs")
    assert refused(command("inspect", f"--checkpoints={tmp_path}/none*", output), "nothing matches")
    assert refused(command("inspect", f"--checkpoint={lying}", f"--against={future}", output), "differs")
    assert not (tmp_path / "out").exists()


def test_wrong_flags_exit_with_status_2(command, tmp_path):
    for arguments, said in (([], "give exactly one of"), (["--against=x"], "give exactly one of"),
                            (["--checkpoint=a", "--workdir=b"], "exactly one of"),
                            (["--metric=m", "--checkpoint=a"], "--metric"),
                            (["--workdir=a", "--against=b"], "--checkpoint=A"),
                            (["--chekpoint=a"], "chekpoint"), (["a"], "unexpected argument 'a'"),
                            (["--depth=-1", "--checkpoint=a"], "depth")):
        assert refused(command("inspect", *arguments), said, code=2)


def test_directories_are_found_in_a_bucket(monkeypatch):
    """gs:// is served from memory, through the fsspec backend that epath uses where TensorFlow is missing."""
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
    with pytest.raises(_checkpoints.CheckpointsError, match="workdir, not a checkpoint.*params/aa"):
        _checkpoints.locate("gs://b/study")
    assert _checkpoints.expand(["gs://b/study/params/*"]) == ["gs://b/study/params/aa"]

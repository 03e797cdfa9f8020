"""tools.average_checkpoints: the average is NumPy's, and what does not go together is refused in one sentence."""

import jax
import numpy as np
import pytest
from checkpoint_tools import TINY, drawn, experiment, of, refused, save, shapes

from scaling.store import checkpoint
from tools import _checkpoints


def test_the_average_equals_numpys_and_the_package_reads_it(command, tmp_path):
    parts = [drawn(seed=seed) for seed in range(2)]
    for seed, arrays in enumerate(parts):
        save(tmp_path / f"s{seed}", arrays, of(experiment(seed=seed)))
    before = {p: p.read_bytes() for p in (tmp_path / "s0").rglob("*") if p.is_file()}
    ask = ["average", f"--checkpoints={tmp_path / 's*'}"]
    code, out, err = command(*ask, f"--output={tmp_path / 'mean'}")
    assert code == 0, err
    norms = [np.sqrt(sum(np.vdot(x, x) for name, x in part.items() if name.endswith("weight"))) for part in
             (*parts, {name: np.mean([part[name] for part in parts], 0) for name in parts[0]})]
    assert f"{norms[2] / np.mean(norms[:2]):.3f} of the mean norm of its parts" in out
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
    assert refused(again, "exists and weights are never overwritten")
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


def test_checkpoints_that_do_not_go_together_are_refused_and_nothing_is_written(command, tmp_path, ladder):
    one = save(tmp_path / "one", drawn(), of(experiment()))
    others = {
        "wide": (drawn(ladder[1]), of(experiment(ladder[1])), "'model/embed/weight' is float32[16, 8]"),
        "batch": (drawn(), of(experiment(**{"data.batch": 7})), "data.batch is "),
        "lacks": ({"model/embed/weight": drawn()["model/embed/weight"]}, {}, "lacks 'model/layers/attention"),
        "nan": ({name: x * np.nan for name, x in drawn().items()}, of(experiment()), "values that are not finite"),
    }
    for name, (arrays, meta, said) in others.items():
        other = save(tmp_path / name, arrays, meta)
        result = command("average", f"--checkpoints={one},{other}", f"--output={tmp_path / 'no'}")
        assert refused(result, said, other)
    ask = ("average", f"--output={tmp_path / 'no'}")
    assert refused(command(*ask, f"--checkpoints={one}"), "only one checkpoint")
    twice = (*ask, f"--checkpoints={one},{one}")
    assert refused(command(*twice, "--coefficients=1"), "1 number for 2 checkpoints")
    assert refused(command(*twice, "--coefficients=1,-1"), "positive", code=2)
    assert refused(command("average", f"--checkpoints={one},{one}"), "--output", code=2)
    assert not (tmp_path / "no").exists()

"""The converter of torch files: its round trip, and its refusals, with and without torch."""
import hashlib
import importlib.util
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from boxed_flags import Box

from scaling.evaluate.pretrained import weights

with Box():
    from tools import convert_weights

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "tools.convert_weights", *arguments], cwd=ROOT, text=True,
                          capture_output=True)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "model"])
def test_every_tensor_survives_the_conversion(tmp_path, zipped, wrapper):
    torch = pytest.importorskip("torch")
    base = torch.arange(12.0).reshape(3, 4)
    state = {"view": base.T[1:], "half": base.half(), "bf16": base.bfloat16(), "count": torch.tensor(3),
             "parameter": torch.nn.Parameter(base)}
    source, output = tmp_path / "w.pth", tmp_path / "w.safetensors"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, source, _use_new_zipfile_serialization=zipped)
    convert_weights.convert(source, output)
    found = weights.read_weights(output)
    assert found.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert sorted(found.arrays) == sorted(state)
    for name, value in state.items():
        np.testing.assert_array_equal(found.arrays[name].astype(np.float32), value.detach().float().numpy())
    assert found.arrays["half"].dtype == np.float16 and found.arrays["bf16"].dtype == np.float32


class RunsCode:
    def __reduce__(self):
        return eval, ("1 / 0",)


@pytest.mark.parametrize("content, reason", [
    (pickle.dumps({"a": RunsCode()}), "as plain tensors"), (b"\x80\x02", "as plain tensors"), (b"", "as plain tensors")])
def test_files_that_run_code_or_are_damaged_are_refused(tmp_path, content, reason):
    pytest.importorskip("torch")
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(weights.WeightsError, match=reason) as error:
        convert_weights.convert(tmp_path / "w.pth", tmp_path / "w.safetensors")
    assert "\n" not in str(error.value) and not (tmp_path / "w.safetensors").exists()


def test_a_file_without_named_tensors_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save([torch.ones(3)], tmp_path / "w.pth")
    with pytest.raises(weights.WeightsError, match="no tensors by name"):
        convert_weights.convert(tmp_path / "w.pth", tmp_path / "w.safetensors")


def test_the_command_says_what_is_missing(tmp_path):
    found = run()
    assert found.returncode == 2 and "--input=FILE.pth" in found.stderr
    found = run(f"--input={tmp_path / 'missing.pth'}")
    assert found.returncode == 1 and found.stderr.count("\n") == 1 and "there is no file" in found.stderr


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_the_command_says_how_to_get_it(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02")
    found = run(f"--input={tmp_path / 'w.pth'}")
    assert found.returncode == 1 and found.stderr.count("\n") == 1 and "pip install torch" in found.stderr


def test_the_command_writes_beside_its_input(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(3)}, tmp_path / "w.pth")
    found = run(f"--input={tmp_path / 'w.pth'}")
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(weights.read_weights(found.stdout.strip()).arrays["a"], np.ones(3))

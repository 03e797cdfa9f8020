"""Files of pretrained weights: what is read and written, what identifies them, and files that are refused."""
import numpy as np
import pytest
import safetensors.numpy

from scaling.evaluate.pretrained import weights

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float16([1, 2]), "count": np.array(3)}
SOURCE = "12" * 32


def same_arrays(found, expected):
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_converted_weights_are_named_by_the_file_that_they_came_from(tmp_path):
    weights.write_weights(tmp_path / "w.safetensors", ARRAYS, SOURCE)
    found = weights.read_weights(tmp_path / "w.safetensors")
    same_arrays(found.arrays, ARRAYS)
    assert found.sha256 == SOURCE


def test_other_files_are_named_by_their_arrays(tmp_path):
    np.savez(tmp_path / "w.npz", **ARRAYS)
    safetensors.numpy.save_file(ARRAYS, tmp_path / "w.safetensors")
    for name in ("w.npz", "w.safetensors"):
        found = weights.read_weights(tmp_path / name)
        same_arrays(found.arrays, ARRAYS)
        assert found.sha256 == weights.arrays_digest(ARRAYS)


def test_the_digest_depends_on_names_types_shapes_and_values():
    changed = [ARRAYS | {"b": np.float16([1, 3])}, ARRAYS | {"b": np.float32([1, 2])},
               ARRAYS | {"b": np.float16([[1, 2]])}, {("c" if k == "b" else k): v for k, v in ARRAYS.items()}]
    assert len({weights.arrays_digest(a) for a in (ARRAYS, *changed)}) == 5
    assert weights.arrays_digest(dict(reversed(ARRAYS.items()))) == weights.arrays_digest(ARRAYS)


def refused(path):
    with pytest.raises(weights.WeightsError) as error:
        weights.read_weights(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_changed_arrays_do_not_keep_the_name_of_the_published_file(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.write_weights(path, ARRAYS, SOURCE)
    written = path.read_bytes()
    path.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
    assert "convert it again" in refused(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
@pytest.mark.parametrize("cut", [0, 4, 40, -1])
def test_damaged_files_are_refused_in_one_sentence(tmp_path, name, cut):
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, **ARRAYS)
    else:
        weights.write_weights(path, ARRAYS, SOURCE)
    path.write_bytes(path.read_bytes()[:cut])
    assert "cannot be read" in refused(path)


def test_offsets_outside_of_the_file_are_refused(tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "cannot be read" in refused(path)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin"])
def test_other_formats_are_refused_with_the_command_that_converts_them(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x02")
    assert f"python -m tools.convert_weights --input={tmp_path / name}" in refused(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    assert "there is no weights file" in refused(tmp_path / "missing.safetensors")

"""Text of any TFDS data set: its splits, its text feature, and the error for other formats."""
import numpy as np
import pytest
import tensorflow_datasets as tfds

from scaling import data
from scaling.data import corpus, windows
from scaling.fields import DataError


def test_any_tfds_name_through_mock_data(tmp_path):
    with tfds.testing.mock_data(num_examples=60):
        source = data.load_text("tfds:lm1b", length=8, batch=4, data_dir=tmp_path, progress=False)
        assert source.splits == ("document",)
        np.testing.assert_array_equal(source.batch(0, 1)["tokens"], source.arrays()["tokens"][4:8])
        assert len(source.evaluation("document", 8)["tokens"]) == 1
        again = data.load_text("tfds:lm1b", length=8, batch=4, data_dir=tmp_path / "b", progress=False)
    assert again.fingerprint == source.fingerprint


class Sentences(tfds.core.GeneratorBasedBuilder):
    """A text data set with splits of its own, as lm1b has."""
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text, number = tfds.features.Text(), tfds.features.Scalar(np.int64)
        features = tfds.features.FeaturesDict({"sentence": text, "n": number})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 100), "test": self._generate_examples(100, 110)}

    def _generate_examples(self, start, stop):
        for i in range(start, stop):
            yield i, {"sentence": f"sentence number {i} ends here", "n": i}


def test_a_prepared_tfds_data_set_and_its_own_test_split(tmp_path):
    Sentences(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    source = data.load_text("tfds:sentences", length=8, data_dir=tmp_path, progress=False)
    assert source.splits == ("test",)
    for found, numbers in (source.arrays(), range(100)), (source.evaluation("test", 0), range(100, 110)):
        text = b"".join(f"sentence number {i} ends here\0".encode() for i in numbers)
        assert len(found["tokens"]) == (len(text) - 1) // 8
        # the targets of all windows are the split's bytes, less the first and a tail shorter than a window
        seen, whole = (np.bincount(np.frombuffer(b, np.uint8), minlength=256)
                       for b in (found["tokens"][:, 1:].astype(np.uint8).tobytes(), text))
        assert (seen <= whole).all() and (whole - seen).sum() <= 8


def test_documents_read_together_are_those_read_one_by_one(tmp_path, monkeypatch):
    Sentences(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    documents = corpus.find_corpus("tfds:sentences", tmp_path, progress=False).documents("train")
    alone, plain = [documents[i] for i in range(100)], [*documents]
    assert plain == alone == documents.__getitems__(range(100)) and documents.__getitems__([7, 3, 7]) == [
        alone[7], alone[3], alone[7]]
    for block in (1, 50, 1000, 10**6):
        monkeypatch.setattr(windows, "BLOCK", block)
        assert windows.take(documents, 10) == windows.take(alone, 10)
    # A record that is not there is None among others; the plain way says what is wrong, or reads it.
    monkeypatch.setattr(type(documents._source), "__getitems__", lambda self, rows: [{"sentence": None} for _ in rows])
    assert documents.__getitems__([7, 3]) == [alone[7], alone[3]]


def test_a_tfds_data_set_that_is_cut_short_is_named(tmp_path):
    Sentences(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    (path,) = tmp_path.glob("sentences/1.0.0/*train.array_record*")
    path.write_bytes(path.read_bytes()[:70000])
    with pytest.raises(DataError, match="sentences/1.0.0 is damaged: .*delete it, and prepare the data set again"):
        data.load_text("tfds:sentences", length=8, data_dir=tmp_path, progress=False)


def test_a_tfds_data_set_in_another_format_says_so(tmp_path):
    with pytest.raises(DataError, match="not prepared as array_record.*file_format='array_record'"):
        data.load_text("tfds:lm1b", data_dir=tmp_path, progress=False)

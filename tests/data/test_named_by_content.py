"""A data set is named by its content, whatever names, sizes and times its files have."""
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from scaling import data
from scaling.data import builders, digests


def corpus(path: pathlib.Path, letters: str, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list(letters), 5)) for _ in range(3000)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(words[i:i + 10]) for i in range(0, len(words), 10)))
    os.utime(path, (1, 1))


def load(path, tmp_path):
    return data.load_text(f"text:{path}", length=32, batch=2, data_dir=tmp_path / "data", progress=False)


def test_files_of_equal_names_sizes_and_times_are_told_apart(tmp_path):
    for version, letters in (("v1", "abcd"), ("v2", "stuv")):
        corpus(tmp_path / version / "corpus.txt", letters)
    one, other = (load(tmp_path / version / "corpus.txt", tmp_path) for version in ("v1", "v2"))
    assert one.fingerprint != other.fingerprint
    for source, letters in ((one, "abcd"), (other, "stuv")):
        assert set(source.decode(source.arrays()["tokens"])) <= set(letters + " \n\0")


def test_files_of_equal_content_are_one_corpus_wherever_they_lie(tmp_path):
    for place in ("here", "there"):
        corpus(tmp_path / place / "corpus.txt", "abcd")
    assert len({load(tmp_path / place / "corpus.txt", tmp_path).fingerprint for place in ("here", "there")}) == 1
    assert len(list((tmp_path / "data").glob("*/text_files"))) == 1


@pytest.mark.parametrize("change", ["rewritten", "replaced", "swapped by a link"])
def test_a_remembered_hash_is_not_that_of_other_content(tmp_path, monkeypatch, change):
    monkeypatch.setattr(digests, "ALWAYS", 0)
    monkeypatch.setattr(digests, "STILL", 0.0)
    first, second = tmp_path / "a" / "x", tmp_path / "b" / "x"
    for path, content in ((first, b"1234"), (second, b"5678")):
        path.parent.mkdir()
        path.write_bytes(content)
        os.utime(path, (1, 1))
    link = tmp_path / "link"
    link.symlink_to(first.parent)

    def digest():
        return digests.content_digest([link / "x"], tmp_path / "index")

    before = digest()
    assert digest() == before and len(list((tmp_path / "index").iterdir())) == 1
    if change == "rewritten":
        first.write_bytes(b"5678")
    elif change == "replaced":
        os.replace(second, first)
    else:
        link.unlink()
        link.symlink_to(second.parent)
    os.utime(link / "x", (1, 1))
    assert digest() != before


def test_a_hash_is_remembered_only_of_files_that_were_still(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "ALWAYS", 0)
    (tmp_path / "x").write_bytes(b"1234")
    before = digests.content_digest([tmp_path / "x"], tmp_path / "index")
    assert not (tmp_path / "index").exists()
    with open(tmp_path / "x", "r+b") as file:       # the same size, within the resolution of some file systems' times
        file.write(b"5678")
    assert digests.content_digest([tmp_path / "x"], tmp_path / "index") != before


class Rebuilt(tfds.core.GeneratorBasedBuilder):
    """A data set of one's own, whose content is `fill`."""
    VERSION = tfds.core.Version("1.0.0")
    fill = 0

    def _info(self):
        features = {"image": tfds.features.Image(shape=(8, 8, 1)), "text": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(60), "test": self._generate_examples(20)}

    def _generate_examples(self, count):
        for i in range(count):
            image = np.full((8, 8, 1), self.fill + i, np.uint8)
            yield i, {"image": builders.png_bytes(image), "text": f"{chr(97 + self.fill % 26)}{i:02d} " * 30}


def test_a_tfds_data_set_that_is_built_again_is_another(tmp_path):
    names = set()
    for fill in (10, 150, 10):
        Rebuilt.fill = fill
        shutil.rmtree(tmp_path / "rebuilt", ignore_errors=True)
        Rebuilt(data_dir=tmp_path, file_format="array_record").download_and_prepare()
        images = data.load_images("tfds:rebuilt", size=8, batch=4, data_dir=tmp_path, progress=False)
        text = data.load_text("tfds:rebuilt", length=16, batch=2, data_dir=tmp_path, progress=False)
        assert images.arrays()["image"].min() >= fill and images.arrays()["image"].max() < fill + 60
        assert chr(97 + fill % 26) in text.decode(text.batch(0, 0)["tokens"])
        names.add((images.fingerprint, text.fingerprint))
    assert len(names) == 2 and len({images for images, _ in names}) == len({text for _, text in names}) == 2

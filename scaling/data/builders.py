"""TFDS builders for files on this machine: array_record files, built and read without TensorFlow."""
import abc

import tensorflow_datasets as tfds

from scaling.data import curate, pycode


class Files(tfds.core.GeneratorBasedBuilder):
    """Curated documents, one an example: {"text", "name", "package"}, in the splits of `curate.split`.

    `curated` saves curating again what the caller has already. What is kept depends on the machine's files:
    `info.metadata` holds its "fingerprint" and the "counts" of each rule.
    """
    VERSION = tfds.core.Version(curate.VERSION)

    def __init__(self, *, curated: curate.Curated | None = None, **kwargs):
        self._curated = curated
        super().__init__(**{"file_format": "array_record", **kwargs})

    @abc.abstractmethod
    def curate(self) -> curate.Curated:
        """Finds and curates the files."""

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self, description=type(self).__doc__, metadata=tfds.core.MetadataDict(),
            features=tfds.features.FeaturesDict({"text": text, "name": text, "package": text}))

    def _split_generators(self, dl_manager):
        curated = self._curated or self.curate()
        self.info.metadata.update(fingerprint=curated.fingerprint, counts=curated.counts)
        return {name: self._generate_examples(found) for name, found in curated.documents.items() if found}

    def _generate_examples(self, documents):
        for document in documents:
            yield document.name, {"text": document.text, "name": document.name, "package": document.package}


class Pycode(Files):
    """Python source files, without duplicates and generated tables, split by file and by package."""
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="stdlib", description="The standard library, with any tests of it."),
        tfds.core.BuilderConfig(name="environment", description="And the packages `scaling` depends on."),
    ]

    def curate(self) -> curate.Curated:
        name = self.builder_config.name
        return curate.curate(pycode.CONFIGS[name](), curate.CODE_RULES, desc=f"pycode/{name}")


class TextFiles(Files):
    """Text files of one's own, without duplicates, split by file."""

    def __init__(self, *, files: tuple[curate.File, ...] = (), **kwargs):
        self._files = files
        super().__init__(**kwargs)

    def curate(self) -> curate.Curated:
        return curate.curate(self._files, curate.PROSE_RULES, desc="text")

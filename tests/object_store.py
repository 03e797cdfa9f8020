"""An object store in memory, for tests of what is kept in a bucket."""
import importlib.util
import os

import pytest


@pytest.fixture
def bucket(monkeypatch):
    """gs:// served from memory, through the fsspec backend that epath uses where there is no TensorFlow."""
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("epath takes gs:// through TensorFlow here")
    from etils.epath import backend
    from fsspec.implementations.memory import MemoryFileSystem

    class Bucket(MemoryFileSystem):
        protocol, root_marker, cachable = "gs", "", False
        store, pseudo_dirs = {}, [""]

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(os.fspath(path).removeprefix("gs://"))
    bucket = Bucket()
    monkeypatch.setattr(backend._FileSystemSpecBackend, "fs", lambda self, path: bucket)
    return "gs://bucket/sweep"

"""Workdirs that several files of tests read and none changes."""

import pytest
from report_study import fill, fill_images


@pytest.fixture(scope="session")
def workdirs(tmp_path_factory):
    """A study of text and one of images, finished, without curves."""
    found = []
    for make in (fill, fill_images):
        found.append(tmp_path_factory.mktemp(make.__name__))
        make(found[-1], without=("curves",))
    return found

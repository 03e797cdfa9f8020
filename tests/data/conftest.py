"""Glyphs that several test files share, prepared once for each process."""
import string

import pytest

from scaling import data
from scaling.data.glyphs import fonts, masters


@pytest.fixture(scope="session")
def glyph_root(tmp_path_factory):
    """The data directory of the glyphs that tests share."""
    return tmp_path_factory.mktemp("glyphs")


@pytest.fixture(scope="session")
def load_glyphs(glyph_root):
    """`load_images` with a small batch and one data directory."""
    def load(name="glyphs/letters", **options):
        return data.load_images(name, progress=False, **{"batch": 8, "data_dir": glyph_root, **options})

    return load


@pytest.fixture(scope="session")
def letters(load_glyphs):
    return load_glyphs()


@pytest.fixture(scope="session")
def drawn():
    """The masters of the letters, before they are split."""
    return masters.draw_masters(lambda code: chr(code) in string.ascii_letters, fonts.font_files(), progress=False)

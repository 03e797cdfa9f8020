"""Characters of the fonts inside matplotlib as an endless stream of images with known factors."""
from scaling.data.glyphs.stream import CATEGORICAL, CONFIGS, VERSION, GlyphStream, find_glyphs

__all__ = ["CATEGORICAL", "CONFIGS", "VERSION", "GlyphStream", "find_glyphs"]

"""Characters of the fonts inside matplotlib as an endless stream of images with known factors."""

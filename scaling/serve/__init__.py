"""A finished run behind HTTP: texts that are written side by side, images, and figures on how it goes. See docs/serving.md."""

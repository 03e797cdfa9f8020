"""A finished run behind HTTP: texts that are written side by side, images, and figures. See docs/serving.md."""

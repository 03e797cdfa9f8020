"""Fitting a law: objectives, starts, Newton's method, and the fit that results."""

"""Intervals of parameters and predictions: resampling, the bootstrap and profiles."""

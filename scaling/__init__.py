"""Scaling experiments for generative models: sweeps, fits, forecasts, verdicts."""

__version__ = "0.1.0"

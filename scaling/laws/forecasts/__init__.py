"""Predictions of runs that nobody has trained yet, written down before they are."""

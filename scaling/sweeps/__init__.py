"""Training a plan of runs so that it can be killed at any moment and started again."""

"""Plans of runs, and their training, which can be killed at any moment and started again."""

"""The results of runs: records, logs, metrics, and the tuned runs of a sweep."""

"""One run, and a pack of runs as one compiled program."""

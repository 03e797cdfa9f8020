"""The training of one run, and of a pack of runs in one compiled program."""

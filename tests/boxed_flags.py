"""Commands define absl flags as they are imported, and two of them may call different things --workdir: tests that run
several in one process keep the flags of each in a box of its own."""
import copy

from absl import flags


class Box:
    """`with box:` makes the flags that were defined inside it, and absl's own, the only ones there are."""

    def __init__(self):
        self.inside = {name: copy.copy(value) for name, value in vars(flags.FLAGS).items()}

    def __enter__(self):
        self.swap()

    def __exit__(self, *failure):
        self.swap()

    def swap(self):
        there = vars(flags.FLAGS)
        outside = dict(there)
        there.clear()
        there.update(self.inside)
        self.inside = outside


RUN = Box()  # for experiments.run and the commands that take some of its flags: a module is imported into one box only

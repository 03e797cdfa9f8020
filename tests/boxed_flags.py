"""Boxes of absl flags. Commands define flags when they are imported, and two commands may use one name, such as --workdir,
for different flags. Tests that import several commands in one process keep the flags of each in a box."""
import copy
import sys

from absl import flags
from absl.testing import flagsaver
from array_record.python import array_record_data_source  # noqa: F401  it defines flags that it reads, in a box or outside


class Box:
    """Inside `with box:` only absl's own flags exist, those of the box `of` so far, and those defined inside this box."""

    def __init__(self, of=None):
        self.inside = {name: copy.copy(value) for name, value in (of.inside if of else vars(flags.FLAGS)).items()}

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


RUN = Box()  # for experiments.run and commands that use some of its flags, since a module is imported only once
TABLE = Box()  # for experiments.forecast_table, which two files of tests import
GENERATE = Box()  # for experiments.generate, likewise


def status_of(box, module, argv, monkeypatch):
    """The exit status of a command of `experiments` that runs in this process, with its flags in a box."""
    from experiments import _environment
    monkeypatch.setattr(sys, "argv", [module.__name__, *argv])
    with box, flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        try:
            module.main(_environment.parse(sys.argv))
        except SystemExit as left:
            return left.code
    return 0

"""Flags that the checkpoint tools share."""

from absl import flags

CHECKPOINTS = flags.DEFINE_list("checkpoints", [], "Checkpoints, separated by commas; may have * in them.")
OUTPUT = flags.DEFINE_string("output", None, "Directory to write to; it is made when missing.")
RUN = flags.DEFINE_integer("run", None, "Which of the runs that a pack's checkpoint holds; the first is 0.")
PART = flags.DEFINE_enum("part", "params", ["params", "ema"], "What to read of a pack's checkpoint.")

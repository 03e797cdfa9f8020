"""The flags that the checkpoint tools share."""

from absl import flags

CHECKPOINTS = flags.DEFINE_list("checkpoints", [], "Checkpoints, separated by commas; * matches any part of a name.")
OUTPUT = flags.DEFINE_string("output", None, "The directory to write to; it is made when missing.")
RUN = flags.DEFINE_integer("run", None, "Which run of a pack's checkpoint to read; the first is 0.")
PART = flags.DEFINE_enum("part", "params", ["params", "ema"], "Which weights of a pack to read; ema is their average.")

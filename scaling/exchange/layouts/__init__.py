"""The layouts of Hugging Face checkpoints that equal a Transformer of this package, one file each for those that are alike.

A layout says which fields of the family it has, how config.json spells them, and which of its tensors are which arrays.
"""

"""Kinds of data, one file each: what of them a run reads, how much, and how models are evaluated on them.

A kind is a frozen dataclass whose fields are those of `config.data`. The file `audio.py` holds the class `Audio` (in any
capitals), a `DataKind` whose `load()` gives a `scaling.data.Source`. A family that `reads = "audio"` then trains on it.
Code that trains, counts or reports uses only what the kinds share: D is `seen` units, `steps` follows from it, and `load`
returns the source.
"""

"""Small experiments of every family that every layout can divide, and a mesh of eight devices for each layout."""

import dataclasses

from sources import TRAINED, tiny

from scaling import experiment as experiments
from scaling import families
from scaling.families.fsq import FSQ

FAMILIES = TRAINED
MESHES = {"replicated": "data=8", "data": "data=8", "run": "", "fsdp": "fsdp=4,data=2", "tensor": "tensor=2,data=4",
          "fsdp_tensor": "fsdp=2,data=2,tensor=2", "sequence": "sequence=2,fsdp=2,data=2"}
SMALL_MEMBERS = {"transformer": {"length": 16, "vocab": 32, "layers": 1, "width": 64}, "vae": {"layers": 2, "width": 64},
                 "gan": {"layers": 1, "width": 64}, "diffusion": {"layers": 1, "width": 64},
                 "classifier": {"layers": 1, "width": 64, "classes": 16, "radius": 0.05, "steps": 2},
                 "fsq": {"layers": 1, "width": 64}, "coded": {"tokenizer": FSQ(width=64, layers=1, code_levels="5,3")},
                 "multimodal": {"tokenizer": FSQ(width=64, layers=1, code_levels="7,2"), "caption": 8},
                 "associative": {"length": 16, "vocab": 32, "width": 64},
                 "recurrent": {"length": 16, "vocab": 32, "layers": 1, "width": 64},
                 "hmm": {"length": 16, "vocab": 32, "states": 64},
                 "masked": {"length": 16, "vocab": 32, "layers": 1, "width": 64}, "seq2seq": {"layers": 1, "width": 64},
                 "textgan": {"length": 16, "vocab": 32, "layers": 1, "width": 64}}


def member(name, layout):
    """An experiment with a small member of a family. It has two heads, so that every layout can divide it."""
    e = tiny(name)
    fields = {field.name for field in dataclasses.fields(e.family)}
    read = {field: value for field, value in e.data.family_fields().items() if field in fields}
    family = type(e.family).ladder(1e5, **read | SMALL_MEMBERS[name])
    if name == "coded":  # all images have one code of a tokenizer that has learned nothing; losses near zero round coarsely
        e = e.replace({"optim.learning_rate": e.optim.learning_rate / 10})
    return e.replace({"family": family, "layout": layout})


def language_model(layout, batch):
    """A Transformer whose sizes make the traffic of each layout easy to tell."""
    family = families.find("transformer").ladder(1e5, layers=2, length=24, vocab=64, scan=False)
    return experiments.Experiment(family=family, layout=layout).replace({"data.length": 24, "data.batch": batch})

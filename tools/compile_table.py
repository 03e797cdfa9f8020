"""The table of docs/hardware.md: train steps compiled for TPU slices on a machine that has none.

    python -m tools.compile_table --folder=compiled [--only=8B]

Prints one line for each program when it is compiled, and writes its report as JSON to the folder. Takes about twenty CPU
minutes.
"""

import dataclasses
import json
import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX starts

from absl import app, flags  # noqa: E402

from experiments import compile_for  # noqa: E402
from scaling import families  # noqa: E402
from scaling.pods.attempt import attempt  # noqa: E402
from scaling.pods.table import table_header, table_row  # noqa: E402
from scaling.study import configs  # noqa: E402

_FOLDER = flags.DEFINE_string("folder", "compiled", "The folder for the reports.")
_ONLY = flags.DEFINE_string("only", "", "Only cases whose name contains this.")


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    config: str
    topology: str
    size: float | None = None
    layout: str = "fsdp"
    mesh: str = ""
    slices: int = 1
    runs: int = 1
    batch: int = 0
    fields: tuple = ()


LARGE = (("1B", 1e9), ("8B", 8e9), ("70B", 7e10))
CASES = [
    Case("quickstart packed", "quickstart", "v5e:4x4", layout="run", runs=16),
    Case("quickstart alone", "quickstart", "v5e:4x4", layout="data", batch=256),
    *(Case(f"{n} on 64", "pod", "v5p:4x4x4", size) for n, size in LARGE),
    *(Case(f"{n} on 512", "pod", "v5p:8x8x8", size) for n, size in LARGE),
    *(Case(f"{n} on 6144", "pod", "v5p:16x16x24", size, "fsdp_tensor", "data=3,fsdp=256,tensor=8", batch=1536)
      for n, size in LARGE),
    Case("8B on two slices", "pod", "v5p:4x4x4", 8e9, slices=2),
    Case("VAE", "vae_scaling", "v6e:16x16", batch=2048, fields=(("family.dtype", "bfloat16"),)),
    Case("GAN", "gan_scaling", "v6e:16x16", layout="data", batch=2048, fields=(("family.dtype", "bfloat16"),)),
]


def experiment(case: Case):
    module = configs.load_config(f"configs/{case.config}.py")
    config = module.get_config()
    config.layout = case.layout
    if case.batch:
        config.data.batch = case.batch
    config.update_from_flattened_dict(dict(case.fields))
    size = case.size
    if case.config in ("vae_scaling", "gan_scaling"):  # the largest size of the family's ladder, not of the study
        size = families.find(config.family.name).sizes()[-1]
    return compile_for.choose(module, config, size)


def main(_):
    folder = pathlib.Path(_FOLDER.value)
    folder.mkdir(parents=True, exist_ok=True)
    print(table_header(), flush=True)
    for case in CASES:
        if _ONLY.value not in case.name:
            continue
        result = attempt(experiment(case), case.topology, case.slices, case.mesh, case.runs)
        (folder / f"{case.name.replace(' ', '_')}.json").write_text(json.dumps(result, indent=1))
        print(table_row(result) if "error" not in result else f"{case.name}: {result['error']}", flush=True)


if __name__ == "__main__":
    app.run(main)

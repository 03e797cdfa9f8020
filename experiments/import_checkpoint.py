"""Import a checkpoint of Hugging Face as a finished run.

    python -m experiments.import_checkpoint --from=gpt2_folder --workdir=runs/gpt2
    python -m experiments.import_checkpoint --from=Qwen/Qwen3-0.6B-Base --workdir=runs/qwen3 --length=1024
    python -m experiments.import_checkpoint --from=EleutherAI/pythia-70m@step1000 --workdir=runs/pythia
    python -m experiments.evaluate --workdir=runs/gpt2 --data=pycode/stdlib
    python -m experiments.generate --workdir=runs/gpt2 --prompt='def '

--from is a local folder with config.json, safetensors and tokenizer.json, or a name on the Hub, perhaps with @ and a
revision, for which the package huggingface_hub must be installed. Layouts: GPT-2, GPT-NeoX (Pythia), Llama, Mistral, Qwen
2 and 3, Mixtral, Qwen 3 with experts and, for the family masked, EuroBERT, with byte-level tokenizers. Weights become
float32. --length is that of the texts that the run reads: by default as many tokens as the model was made for, and at most
2,048 where positions are rotary.

The run has no metrics of its own, because the text that it was trained on is not here. Others can begin with it: see
docs/exchange.md. A checkpoint that was imported already is left alone. --json prints one line of JSON.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0; 1 when the checkpoint
cannot be read or is not one that a family here computes; 2 for wrong flags. The reason is one sentence on standard
error.
"""

import os

from scaling.devices import chips

chips.leave_absent_tpus_alone()  # before JAX starts

from absl import app, flags, logging  # noqa: E402

from experiments import _environment  # noqa: E402
from experiments._errors import in_one_sentence  # noqa: E402
from experiments._json import answering  # noqa: E402
from scaling import exchange  # noqa: E402
from scaling.results import records, tuned  # noqa: E402

_FROM = flags.DEFINE_string("from", None, "The folder of a checkpoint, or its name on the Hub.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The directory that gets the run.")
_LENGTH = flags.DEFINE_integer("length", 0, "Tokens of a text that the run reads; 0 is what it was made for.", 0, 2**20)
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON: the run, its size, and whether it was there.")


def main(argv):
    with in_one_sentence(), answering(_JSON.value, quiet=True) as answer:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: this command takes flags only, see --help")
        fingerprint, there = exchange.import_checkpoint(_FROM.value, _WORKDIR.value, _LENGTH.value)
        record = records.Records(_WORKDIR.value).read(fingerprint)
        said = "was imported already as" if there else "is now"
        print(f"{_FROM.value} {said} run {fingerprint} ({record['family']} N={record[tuned.PARAMS]:,}) in {_WORKDIR.value}")
        answer |= {"run": fingerprint, "family": record["family"], tuned.PARAMS: record[tuned.PARAMS],
                   "imported": record["imported"], "workdir": os.fspath(_WORKDIR.value), "existed": there}


if __name__ == "__main__":
    flags.mark_flags_as_required(["from", "workdir"])
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)

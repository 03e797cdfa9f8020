"""Export a finished run for other programs: Hugging Face, safetensors, StableHLO or ONNX.

    python -m experiments.export --workdir=runs/quickstart --format=hf --output=quickstart_hf
    python -m experiments.export --workdir=runs/gan --run=N=3e5 --format=safetensors --output=gan
    python -m experiments.export --workdir=runs/quickstart --run=031f --format=stablehlo --output=program --json

--run is "best" (the best run of the study, its target included), "N=3e5" (the best of the runs nearest to so many
non-embedding parameters), a fingerprint, or the start of one. --format is

* hf: a decoder Transformer on text as a checkpoint for AutoModelForCausalLM and AutoTokenizer of `transformers`, in the
  layout of Llama, Mistral, Qwen 2 or 3, Mixtral, Qwen 3 with experts, GPT-2, or GPT-NeoX, whichever computes the same;
* safetensors: any family, all parameters by path, which scaling.exchange.read_exported reads back;
* stablehlo: a program that jax.export reads, for CPUs, GPUs and TPUs: the logits of a family of text, images, or the loss
  of each example;
* onnx: the same as a model for onnxruntime, with `pip install 'scaling[onnx]'`. The batch size is free and the length of a
  text is that of the run. What the converter jax2onnx does not compute alike is refused.

--output is a new folder, which appears whole or not at all. One that holds files is refused. --json prints one line of
JSON.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0; 1 when the run cannot
be read or exported; 2 for wrong flags. The reason is one sentence on standard error.
"""


from scaling.devices import chips

chips.leave_absent_tpus_alone()  # before JAX starts

from absl import app, flags, logging  # noqa: E402

import scaling  # noqa: E402
from experiments import _environment  # noqa: E402
from experiments._errors import in_one_sentence  # noqa: E402
from experiments._json import answering  # noqa: E402
from scaling import exchange, families  # noqa: E402
from scaling.exchange.folders import check_new  # noqa: E402
from scaling.results import tuned  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of the study whose run is exported.")
_RUN = flags.DEFINE_string("run", "best", "best, N=<parameters>, the fingerprint of a run, or the start of one.")
_FORMAT = flags.DEFINE_enum("format", "hf", exchange.FORMATS, "What the run is written as.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder to write, which must be new or empty.")
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON: the run, the folder and its files.")


def main(argv):
    with in_one_sentence(), answering(_JSON.value, quiet=True) as answer:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: this command takes flags only, see --help")
        from scaling.study.restore import titled  # here, since --help needs none of it
        check_new(_OUTPUT.value)
        run = scaling.restore(_WORKDIR.value, _RUN.value)
        made = exchange.export(run, _OUTPUT.value, _FORMAT.value)
        kind = made.get("model_type") or made.get("computes") or "all parameters by path"
        print(f"{titled(run)} as {made['format']} ({kind}) in {made['output']}: {', '.join(made['files'])}")
        about = {"run": run.fingerprint, "family": families.name(run.family), tuned.PARAMS: run.record[tuned.PARAMS]}
        answer |= {**about, **made}


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "output"])
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)

"""A checkpoint that was trained elsewhere as a finished run of a workdir: a record, parameters and a tokenizer.

    workdir/records/<run>.jsonl          what is known of it: its sizes, and where it is from; it has no metrics
    workdir/params/<run>/                its parameters
    workdir/tokenizers/<tokenizer>.json  its tokenizer, which also lies where data are prepared
"""

import datetime
import hashlib
import importlib.util
import os
import pathlib
import re
from typing import Any

from scaling import cost, families
from scaling import experiment as experiments
from scaling.data.imported import PREFIX
from scaling.data.tokenizers import Bytes, store_tokenizer
from scaling.exchange.arrays import CONFIG
from scaling.exchange.errors import ExchangeError
from scaling.exchange.huggingface import read_huggingface
from scaling.exchange.plain import EMBED, READOUT, from_flat
from scaling.exchange.tokens import read_tokenizer_of
from scaling.results import records
from scaling.store import checkpoint, files
from scaling.store.prepared import data_directory, file_digest

BATCH = 8  # sequences of a step of the runs that begin with it, unless they say otherwise
WANTED = ("*.safetensors", "*.json")  # files of a repository


def import_checkpoint(source: str, workdir, length: int = 0) -> tuple[str, bool]:
    """(the fingerprint of the run that a checkpoint became, whether it was there already).

    `source` is a local folder of a Hugging Face checkpoint, or the name of one on the Hub, such as "openai-community/gpt2",
    and perhaps its revision, as in "EleutherAI/pythia-70m@step1000".
    `length` is that of the texts that the run reads, see `scaling.exchange.huggingface.read_huggingface`. The tokens are
    those of the checkpoint, except that the one that ends documents and token 0 change places (`Stored`). Raises an
    ExchangeError for a checkpoint that no Transformer or encoder here computes.
    """
    folder = checkpoint_folder(source)
    family, arrays, config = read_huggingface(folder, length)
    tokenizer = read_tokenizer_of(folder, config, family.vocab)
    workdir = files.open_workdir(workdir)
    digest = hashlib.sha256("".join(map(file_digest, sorted(folder.glob("*.safetensors")))).encode()).hexdigest()[:12]
    label = re.sub(r"[^\w.-]+", "-", source.rstrip("/").rpartition("/")[2] if folder.is_dir() else source)
    named = Bytes.name
    if tokenizer.name != Bytes.name:
        for directory in (data_directory() / "tokenizers", pathlib.Path(os.fspath(workdir)) / "tokenizers"):
            store_tokenizer(tokenizer, directory)
        named, numbers = tokenizer.name, tokenizer.numbers
        arrays |= {EMBED: arrays[EMBED][numbers]} | ({} if family.tied else {READOUT: arrays[READOUT][:, numbers]})
    data = experiments.Text(name=f"{PREFIX}{label}@{digest}", tokenizer=named, length=family.length, batch=BATCH,
                            tokens=BATCH * family.length, evaluation_tokens=max(2**16, family.length))
    experiment = experiments.Experiment(family=family, data=data).replace({"optim.warmup": 0})
    about = {"from": source, "model_type": config["model_type"], "digest": digest}
    return write_imported(workdir, experiment, from_flat(family, arrays), about)


def checkpoint_folder(source: str) -> pathlib.Path:
    """The local folder of a checkpoint; one of the Hub is fetched by `huggingface_hub`, into its own cache."""
    folder = pathlib.Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?", source):
        raise ExchangeError(f"--from={source} is no folder; write one that holds {CONFIG} and safetensors")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ExchangeError(f"--from={source} is no folder here, and names of the Hub need a package that is not "
                            "installed: pip install huggingface_hub, or write the path of a folder")
    from huggingface_hub import snapshot_download
    try:
        name, _, revision = source.partition("@")
        return pathlib.Path(snapshot_download(name, revision=revision or None, allow_patterns=list(WANTED)))
    except Exception as error:  # of many kinds: no network, no such name, no right to read it
        said = " ".join(str(error).split())[:200]
        raise ExchangeError(f"--from={source} is no folder here, and cannot be fetched from the Hub ({said}); write the "
                            "path of a folder that holds it") from None


def write_imported(workdir, experiment, params, about: dict[str, Any]) -> tuple[str, bool]:
    """Writes the parameters and the record of a run that was trained elsewhere; see `import_checkpoint`."""
    content = experiments.made_from(experiment, lambda each: each.data.load().fingerprint)
    fingerprint, recorded = experiments.fingerprint(experiment, content), records.Records(workdir)
    if recorded.finished(fingerprint):
        return fingerprint, True
    saved = checkpoint.Checkpoints(workdir / "params" / fingerprint)
    saved.save(experiment.steps, {"params": params}, {"experiment": experiments.to_dict(experiment)})
    saved.close()
    params_counted = cost.param_count(experiment.family)
    recorded.write({
        "fingerprint": fingerprint, "role": "start", "family": families.name(experiment.family),
        "params_total": params_counted["total"],
        "params_non_embedding": params_counted["non_embedding"], "params_active": cost.active_count(experiment.family),
        "tokens_seen": None, "tokens_unique": None, "steps": None, "flops": None, "flops_executed": None,
        "diverged": False, "diverged_step": None, "imported": about,
        "data_fingerprint": experiment.data.load().fingerprint, "experiment": experiments.to_dict(experiment),
        "versions": records.built_with(), "git_commit": records.git_commit(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")})
    return fingerprint, False

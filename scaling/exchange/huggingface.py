"""Transformers and encoders of masked text as checkpoints of Hugging Face `transformers`, and such checkpoints as
Transformers. Neither torch nor `transformers` is needed."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scaling import families
from scaling.exchange.arrays import CONFIG, WEIGHTS, described
from scaling.exchange.errors import ExchangeError
from scaling.exchange.layouts.eurobert import EuroBert
from scaling.exchange.layouts.gpt2 import GPT2
from scaling.exchange.layouts.layout import CheckpointLayout, checked_fields
from scaling.exchange.layouts.llama import Llama, Mistral, Qwen2, Qwen3
from scaling.exchange.layouts.mixtral import Mixtral, Qwen3Moe
from scaling.exchange.layouts.neox import NeoX
from scaling.exchange.plain import (
    EMBED,
    abstract_arrays,
    as_decoder,
    as_encoder,
    flat_arrays,
    plain_family,
    plain_form,
    table_factor,
    with_mask_token,
)
from scaling.exchange.tokens import write_tokenizer
from scaling.experiment import Text
from scaling.families.masked import Masked
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError
from scaling.store import files

DECODERS: tuple[CheckpointLayout, ...] = (Llama(), Mistral(), Qwen3(), Qwen2(), Mixtral(), Qwen3Moe(), GPT2(), NeoX())
ENCODERS: tuple[CheckpointLayout, ...] = (EuroBert(),)
INDEX = "model.safetensors.index.json"
OURS = "scaling.json"  # which run a checkpoint was
WHY_NOT = {"seq2seq": "T5 adds a bias to attention and BART has learned positions, and this one rotates"}
BUFFERS = ("rotary_emb.inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias")  # of older
# checkpoints; they follow from config.json


def layout_of(family) -> CheckpointLayout:
    """The layout that holds a family in plain form. ExchangeError, which names the fields that none holds."""
    other = f"; write --format=safetensors, which holds every {families.name(family)}"
    if not isinstance(family, (Transformer, Masked)):
        why = WHY_NOT.get(families.name(family), "it is no decoder Transformer")
        raise ExchangeError(f"no layout of Hugging Face fits the family {families.name(family)}, because {why}{other}")
    if isinstance(family, Masked) and family.classes:
        raise ExchangeError("no layout of Hugging Face fits an encoder that tells classes, because those have more maps "
                            f"before the classes{other}")
    layouts = ENCODERS if isinstance(family, Masked) else DECODERS
    plain = plain_family(as_decoder(family) if isinstance(family, Masked) else family)
    lacks = {layout: layout.differs(plain) for layout in layouts}
    nearest = min(layouts, key=lambda layout: (len(lacks[layout]), "experts" in lacks[layout]))
    if differs := lacks[nearest]:
        said = " and ".join(f"family.{name}={getattr(family, name)}" for name in dict.fromkeys(differs))
        raise ExchangeError(f"no layout of Hugging Face computes {said} (the nearest, {nearest.model_type}, does not)"
                            f"{other}")
    return nearest


def write_huggingface(folder: pathlib.Path, run) -> str:
    """Writes a restored run as a checkpoint for `AutoModelForCausalLM`, or `AutoModelForMaskedLM`, and `AutoTokenizer`;
    returns its model type.

    Weights and the computation there are float32. Raises an ExchangeError for a run that no layout holds.
    """
    layout, family, arrays = layout_of(run.family), run.family, flat_arrays(run.params)
    if layout.encodes:
        family, arrays = as_decoder(family), with_mask_token(family, arrays)
    family, arrays = plain_form(family, arrays)
    data = run.experiment.data
    if not isinstance(data, Text) or data.numbers:
        raise ExchangeError(f"run {run.fingerprint} reads {data.name}, which is no text, so it has no tokenizer; write "
                            "--format=safetensors")
    write_tokenizer(folder, run.tokenizer, family.length, family.vocab - 1 if layout.encodes else None)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = {"architectures": [layout.architecture], "model_type": layout.model_type, **layout.config(family), **ends,
              "vocab_size": family.vocab, "tie_word_embeddings": family.tied, "dtype": "float32"}
    written = {CONFIG: config}
    if not layout.encodes:
        written = {CONFIG: config | {"use_cache": True}, "generation_config.json": {**ends, "do_sample": True}}
    save_file(foreign_tensors(layout, family, arrays), folder / WEIGHTS, metadata={"format": "pt"})
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    files.write_json(folder / OURS, described(run))
    return layout.model_type


def foreign_tensors(layout: CheckpointLayout, family, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{name: tensor} in a layout of the arrays of a family in plain form."""
    arrays = {**arrays, EMBED: arrays[EMBED] * np.float32(table_factor(family))}
    made = {name: tensor for match in layout.matches(family) for name, tensor in match.tensors(arrays)}
    return made | layout.constants(family)


def read_huggingface(folder: pathlib.Path, length: int = 0) -> tuple[Any, dict[str, np.ndarray], dict]:
    """(the Transformer or `Masked`, {path: array}, config.json) of a local checkpoint. Weights become float32.

    `length` is that of the texts that it reads, by default as many tokens as it was made for, and at most `LONGEST` where
    positions are rotary and the length changes no parameter. Raises an ExchangeError.
    """
    config = read_model_config(folder)
    layouts = {layout.model_type: layout for layout in (*DECODERS, *ENCODERS)}
    layout = layouts.get(config.get("model_type", ""))
    if layout is None:
        known = ", ".join(layouts)
        raise ExchangeError(f"{folder} is of the type {config.get('model_type')!r}, which no Transformer of scaling "
                            f"computes; types that can be imported: {known}")
    fields = checked_fields(layout, config, str(folder / CONFIG))
    longest = fields.pop("length", 0) or config.get("max_position_embeddings", LONGEST)
    fields["length"] = length or (longest if fields["positions"] == "learned" else min(longest, LONGEST))
    if length > longest:
        raise ExchangeError(f"--length={length} is more than the {longest} tokens that {folder} was made for; write at "
                            f"most {longest}")
    if fields["tied"]:
        fields["logit_scale"] = float(fields["width"])  # so that the table is the same on the way in and out
    try:
        family = Transformer(**fields, scan=fields["layers"] > 8)
    except ConfigError as error:
        raise ExchangeError(f"{folder / CONFIG} gives no Transformer of scaling: {error}") from None
    tensors = Tensors(folder)
    constants = {name: tensors.read(name) for name in layout.constants(family) if tensors.holds(name)}
    arrays = _own_arrays(tensors, layout, family, longest)
    if isinstance(layout, EuroBert):
        family, arrays = _as_encoder(layout, family, arrays, constants, config, folder)
    return family, arrays, config


def _as_encoder(layout: EuroBert, family, arrays, constants, config, folder) -> tuple[Masked, dict[str, np.ndarray]]:
    """The encoder of a checkpoint, given what it is as a Transformer and its biases that are constant here."""
    if differs := layout.differs(family):
        said = " and ".join(f"family.{name}={getattr(family, name)}" for name in differs)
        raise ExchangeError(f"{folder / CONFIG} asks for an encoder with {said}, which scaling does not compute: it "
                            "cannot be imported")
    hides = config.get("mask_token_id")
    if not isinstance(hides, int) or not 0 <= hides < family.vocab:
        raise ExchangeError(f"{folder / CONFIG} has mask_token_id={hides!r}; write the number of the token that stands for "
                            f"hidden ones, 0 to {family.vocab - 1}")
    apart = layout.hides_apart(constants)
    if apart and hides != family.vocab - 1:
        raise ExchangeError(f"the last token of {folder} is never told, and mask_token_id={hides} is another one: it "
                            "cannot be imported")
    return as_encoder(family, arrays, hides, apart)


LONGEST = 2048  # tokens of a text that an imported model with rotary positions reads, unless more are asked for


def _own_arrays(tensors: "Tensors", layout, family, longest) -> dict[str, np.ndarray]:
    """{path: array} of a family from the tensors of a checkpoint. Learned positions after the first ones are left out."""
    shapes = {path: x.shape for path, x in abstract_arrays(family).items()}
    cut = {"model/position/weight": longest} if "model/position/weight" in shapes else {}
    whole = {path: (cut.get(path, shape[0]), *shape[1:]) for path, shape in shapes.items() if shape}
    arrays = {}
    for match in layout.matches(family):
        arrays |= match.arrays(tensors.read, whole)
    copies = ["lm_head.weight", "embed_out.weight"] if family.tied else []  # a second copy of a tied table
    if left := [name for name in tensors.unread() if name not in copies]:
        raise ExchangeError(f"{tensors.folder} holds tensors that a {layout.model_type} does not have, such as {left[0]}: "
                            "it cannot be imported")
    arrays = {path: x[:shapes[path][0]] if path in cut else x for path, x in arrays.items()}
    return arrays | {EMBED: arrays[EMBED] / np.float32(table_factor(family))}


class Tensors:
    """The tensors of a checkpoint in one safetensors file or several, each read when it is asked for."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self._read = folder, set()
        try:
            if (folder / INDEX).exists():
                self._files = dict(files.read_json(folder / INDEX)["weight_map"])
            elif (folder / WEIGHTS).exists():
                with safe_open(folder / WEIGHTS, framework="np") as file:
                    self._files = dict.fromkeys(file.keys(), WEIGHTS)
            else:
                raise ExchangeError(f"{folder} has no {WEIGHTS}: save it by save_pretrained(..., safe_serialization=True)")
        except SafetensorError as error:
            raise ExchangeError(f"{folder / WEIGHTS} cannot be read ({error}); restore it") from None

    def holds(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self._files

    def read(self, name: str) -> np.ndarray:
        """A tensor as float32. Checkpoints of a model without its head lack the first part of names."""
        found = next((each for each in (name, name.partition(".")[2]) if each in self._files), None)
        if found is None:
            raise ExchangeError(f"{self.folder} lacks the tensor {name}")
        self._read.add(found)
        path = self.folder / self._files[found]
        try:
            with safe_open(path, framework="np") as file:
                return file.get_tensor(found).astype(np.float32)
        except (FileNotFoundError, SafetensorError) as error:
            raise ExchangeError(f"{path} cannot be read ({error}); restore it") from None

    def unread(self) -> list[str]:
        """The names of tensors that nobody asked for, without buffers."""
        return sorted(name for name in self._files.keys() - self._read if not name.endswith(BUFFERS))


def read_model_config(folder: pathlib.Path) -> dict[str, Any]:
    """The config.json of a local checkpoint; ExchangeError where there is none."""
    try:
        found = files.read_json(folder / CONFIG)
    except FileNotFoundError:
        raise ExchangeError(f"{folder} has no {CONFIG}; write the folder of a Hugging Face checkpoint") from None
    if not isinstance(found, dict):
        raise ExchangeError(f"{folder / CONFIG} is no object of JSON; restore it")
    return found

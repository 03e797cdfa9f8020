"""Tokenizers as Hugging Face keeps them: `tokenizer.json` and `tokenizer_config.json`."""

import json
import pathlib
from typing import Any

from scaling.data.tokenizers import BPE, Bytes, Stored, Tokenizer, printed_bytes
from scaling.exchange.errors import ExchangeError

FILE, BESIDE = "tokenizer.json", "tokenizer_config.json"
END = "<|endoftext|>"  # token 0 of a tokenizer that was trained here
HIDDEN = "[MASK]"  # what stands for a hidden token in a text


def write_tokenizer(folder: pathlib.Path, tokenizer: Tokenizer, length: int, mask: int | None = None) -> None:
    """Writes a tokenizer whose numbers are those of `tokenizer`, for a model that reads `length` tokens.

    Every text gets the tokens that it has here, except that a BPE there takes "<|endoftext|>" in a text for the end of the
    document. With `mask`, "[MASK]" is that token.
    """
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length,
                              "clean_up_tokenization_spaces": False}
    if isinstance(tokenizer, Stored):
        content, end = _renumbered(tokenizer)
    elif isinstance(tokenizer, BPE):
        content, end = json.loads(tokenizer.state), END
        vocab = content["model"]["vocab"]
        content["model"]["vocab"] = {END: 0} | {token: number + 1 for token, number in vocab.items()}
        content["added_tokens"] = [_special(0, END)]
    elif isinstance(tokenizer, Bytes):  # a byte of 0 ends a document, so no other text stands for that
        content, end = _of_bytes(), None
    else:
        raise ExchangeError(f"the tokenizer {tokenizer.name} has no form that Hugging Face reads; write "
                            "--format=safetensors")
    content["decoder"] = content.get("decoder") or _byte_level()
    if end is not None:
        config |= {"eos_token": end, "bos_token": end}
    if mask is not None:
        content["added_tokens"] = [*(content.get("added_tokens") or ()), _special(mask, HIDDEN)]
        config["mask_token"] = HIDDEN
    for name, value in ((FILE, content), (BESIDE, config)):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_tokenizer_of(folder: pathlib.Path, config, rows: int) -> Tokenizer:
    """The tokenizer of a checkpoint whose model has `rows` of embeddings; ExchangeError where it has none that can be read.

    The token that ends documents is the `eos_token` of tokenizer_config.json, or else the `eos_token_id` of config.json.
    """
    path = folder / FILE
    if not path.exists():
        raise ExchangeError(f"{folder} has no {FILE}, by which text becomes tokens: add that of the model, which "
                            "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes")
    state = _without_tokens_from(rows, path.read_text(encoding="utf-8"))
    if json.loads(state).get("model", {}).get("vocab") == _of_bytes()["model"]["vocab"] and rows == Bytes().vocab:
        return Bytes()
    found = Stored(state, _end(folder, json.loads(state), config), rows)
    if found.vocab > rows:
        raise ExchangeError(f"the tokenizer of {folder} has {found.vocab} tokens, and the model embeddings of {rows}: they "
                            "do not belong together")
    return found


def _without_tokens_from(rows: int, state: str) -> str:
    """A tokenizer.json without a token for hidden ones that the model here keeps apart from those of texts."""
    content = json.loads(state)
    kept = [each for each in content.get("added_tokens") or () if (each["id"], each["content"]) != (rows, HIDDEN)]
    return state if len(kept) == len(content.get("added_tokens") or ()) else json.dumps({**content, "added_tokens": kept})


def _end(folder: pathlib.Path, content: dict, config) -> int:
    beside = folder / BESIDE
    said = json.loads(beside.read_text(encoding="utf-8")).get("eos_token") if beside.exists() else None
    said = said["content"] if isinstance(said, dict) else said
    added = {each["content"]: each["id"] for each in content.get("added_tokens") or ()}
    numbers = content["model"].get("vocab", {}) | added
    if said in numbers:
        return numbers[said]
    number = config.get("eos_token_id")
    number = number[0] if isinstance(number, list) and number else number
    if not isinstance(number, int):
        raise ExchangeError(f"nothing says which token of {folder} ends a document; write it as eos_token into {BESIDE}")
    return number


def _renumbered(tokenizer: Stored) -> tuple[dict, str | None]:
    """(the content of a tokenizer.json with the numbers of tokens that they have here, the token that ends documents)."""
    content, moved = json.loads(tokenizer.state), {0: tokenizer.end, tokenizer.end: 0}
    vocab = content["model"]["vocab"]
    ended = {each["content"]: each["id"] for each in content.get("added_tokens") or () if each["id"] == tokenizer.end}
    vocab = {token: moved.get(number, number) for token, number in {**vocab, **ended}.items()}
    content["model"]["vocab"] = dict(sorted(vocab.items(), key=lambda pair: pair[1]))
    added = content.get("added_tokens") or ()
    content["added_tokens"] = [{**each, "id": moved.get(each["id"], each["id"])} for each in added]
    content |= {"post_processor": None, "normalizer": None, "truncation": None, "padding": None}
    ends = [each["content"] for each in content["added_tokens"] if each["id"] == 0]
    return content, ends[0] if ends else None


def _of_bytes() -> dict:
    vocab = {character: byte for character, byte in sorted(printed_bytes().items(), key=lambda pair: pair[1])}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": _byte_level(), "post_processor": None, "decoder": _byte_level(),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocab, "merges": []}}


def _byte_level() -> dict:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _special(number: int, content: str) -> dict:
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True}

"""A GPT-2 that others trained, and that a package ships: `pip install --no-deps microformer-mgm` (MIT, 33 MB). Without it
this file is skipped.

It is a model of 8.9 million parameters of which bacteria live together ("MGM", by H. Zhang and others): a text is a sample
of soil, of a gut and so on, a token a genus, which stands in a sample at most once, and one token ends the sample. Its
weights are in torch's format, and it has no tokenizer of text. So the tensors are read here without torch, and tokens are
numbers.
"""

import collections
import importlib.util
import json
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from scaling import exchange
from scaling.exchange import huggingface
from scaling.exchange.plain import from_flat
from scaling.families._generate import generate

FOUND = importlib.util.find_spec("mgm")
if FOUND is None:
    pytest.skip("the package microformer-mgm ships the model", allow_module_level=True)
FOLDER = pathlib.Path(FOUND.origin or next(iter(FOUND.submodule_search_locations))).with_suffix("")
FOLDER = (FOLDER.parent if FOLDER.name == "__init__" else FOLDER) / "resources" / "general_model"
STORAGES = {"FloatStorage": np.float32, "BoolStorage": np.bool_, "ByteStorage": np.uint8}


def tensors_of(path):
    """{name: array} in a file of `torch.save`, of which nothing but arrays is read."""
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]

        def rebuild(storage, offset, size, stride, *_):
            steps = [step * storage.itemsize for step in stride]
            return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()

        class Reader(pickle.Unpickler):
            def find_class(self, module, name):
                known = {("torch._utils", "_rebuild_tensor_v2"): rebuild,
                         ("collections", "OrderedDict"): collections.OrderedDict,
                         **{("torch", storage): kind for storage, kind in STORAGES.items()}}
                return known[module, name]

            def persistent_load(self, saved):
                return np.frombuffer(archive.read(f"{root}/data/{saved[2]}"), saved[1])

        with archive.open(f"{root}/data.pkl") as file:
            return dict(Reader(file).load())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The checkpoint with its weights as safetensors."""
    made = tmp_path_factory.mktemp("mgm")
    tensors = tensors_of(FOLDER / "pytorch_model.bin")
    tied = tensors.pop("lm_head.weight")
    np.testing.assert_array_equal(tied, tensors["transformer.wte.weight"])
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, made / "model.safetensors")
    (made / "config.json").write_bytes((FOLDER / "config.json").read_bytes())
    return made


def test_a_trained_gpt2_of_others_writes_here_what_it_learned(folder):
    family, arrays, _ = huggingface.read_huggingface(folder, 0)
    said = json.loads((folder / "config.json").read_text())
    begin, end = said["bos_token_id"], said["eos_token_id"]
    params = from_flat(family, arrays)
    prompts, options = [np.array([begin], np.int32)] * 3, {"max_tokens": 200, "stop": [end], "seed": 0}
    likeliest = np.asarray(generate(family, params, prompts, temperature=0.0, **options)[0])
    samples = [likeliest, *generate(family, params, prompts, temperature=0.7, **options)]
    for sample in samples:
        assert 10 < len(sample) < 200, "a sample ends"
        assert len({*map(int, sample)}) > 0.97 * len(sample), "a genus stands in a sample once"
    assert len({tuple(map(int, sample)) for sample in samples}) == len(samples)
    nats = nats_of(family, params, np.concatenate([[begin], likeliest, [end]]))
    mixed = np.random.default_rng(0).permutation(likeliest)
    assert nats.mean() < 3 < nats_of(family, params, np.concatenate([[begin], mixed, [end]])).mean() < np.log(family.vocab)


def nats_of(family, params, tokens):
    logits = np.asarray(family.logits(params, tokens[None, :-1].astype(np.int32)))[0]
    logits = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), tokens[1:]]


def test_the_command_says_what_such_a_folder_lacks(folder, tmp_path):
    with pytest.raises(exchange.ExchangeError, match="safetensors"):
        exchange.import_checkpoint(str(FOLDER), tmp_path / "runs")
    with pytest.raises(exchange.ExchangeError, match="has no tokenizer.json"):
        exchange.import_checkpoint(str(folder), tmp_path / "runs")

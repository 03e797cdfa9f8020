"""German and Chinese text survives from a file of pairs to what a trained model writes and to the page of its study."""

import dataclasses
import json
import pathlib

import pytest

from scaling import report
from scaling.results import records
from scaling.study import configs
from scaling.study.restore import restore_record
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions

PATH = f"{pathlib.Path(__file__).parents[2]}/configs/translation.py"
PAIRS = {"größer machen": "保存文档。", "öffnen": "Ärger über Öl …"}  # learned by heart, with a number after each source


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in ("bytes", "bpe:300")])
def study(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    rows = [{"source": f"{source} {number}", "target": target} for number in range(60) for source, target in PAIRS.items()]
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    config = configs.read_config(f"{PATH}:quick")
    config.update_from_flattened_dict({
        "data.name": f"pairs:{folder}/pairs.jsonl", "data.tokenizer": request.param, "data.source_length": 24,
        "data.length": 24, "data.batch": 8, "data.evaluation_examples": 0, "data.samples": 0, "beside": (),
        "family.layers": 1, "sizes": (5e3,), "pairs": (64,), "unique": 64, "epochs": 40, "tune": 0.0})
    definition = dataclasses.replace(configs.define_study(configs.load_config(PATH), config), target=None)
    found = Study(definition, folder / "runs", TrainingOptions(), 1, "command", None)
    found.train()
    found.show()
    return found


def test_a_model_writes_the_scripts_that_it_learned(study):
    [record] = records.load_records(study.workdir).to_dict("records")
    run = restore_record(study.runner, study.runner.records.read(record["fingerprint"]))
    assert run.generate([f"{source} 7" for source in PAIRS], temperature=0) == list(PAIRS.values())


def test_the_page_shows_held_out_pairs_beside_what_models_write(study):
    page = report.write(study.workdir).read_text()
    for source, target in PAIRS.items():
        assert page.count(target) >= 2 and source in page  # as the model writes it and as the data have it

"""Scores that `experiments.generate` writes beside the texts of tunes."""

import pytest

from experiments import _written
from scaling.study.restored import RestoreError


def test_each_tune_has_its_score_and_what_is_no_tune_has_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_written.engraving, "engrave", lambda text: f"<svg>{text}".encode() if "|" in text else None)
    path = tmp_path / "tune.svg"
    assert _written.write_scores(None, "K:G\n", ["GA|"]) == {} and not list(tmp_path.iterdir())
    assert _written.write_scores(str(path), "K:G\n", ["GA|\0K:D\n"]) == {"scores": [str(path)]}
    assert path.read_bytes() == b"<svg>K:G\nGA|"  # the first tune, after the prompt
    found = _written.write_scores(str(path), "K:G\n", ["GA|", "GA", "Bc|"])["scores"]
    assert found == [str(tmp_path / "tune-1.svg"), None, str(tmp_path / "tune-3.svg")]
    assert "sample 2 is no tune" in capsys.readouterr().err
    assert _written.write_scores(str(path), "K:G\n", ["GA|"]) == {"scores": [str(path)]}  # the same again
    with pytest.raises(RestoreError, match="holds something else"):
        _written.write_scores(str(path), "K:G\n", ["dd|"])

"""A study in one file: nothing of it is lost or changed on the way, and what is not whole is refused."""

import json
import zipfile

import pytest
from tiny_workdir import text_workdir

import scaling
from scaling.results import records
from scaling.study import bundle
from scaling.study.restored import RestoreError


@pytest.fixture(scope="module")
def study(corpus, tmp_path_factory):
    return text_workdir(tmp_path_factory.mktemp("text") / "runs", corpus)


def rewritten(path, target, change):
    """A copy of a zip file whose {name: content} went through `change`."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


@pytest.mark.parametrize("weights", [False, True])
def test_a_workdir_comes_back_as_it_was_with_parameters_only_where_asked_for(study, tmp_path, weights):
    about = bundle.pack(study, tmp_path / "study.zip", weights)
    assert bundle.unpack(tmp_path / "study.zip", tmp_path / "back") == about and about["runs"] == 3
    found = {path.relative_to(tmp_path / "back"): path.read_bytes() for path in (tmp_path / "back").rglob("*")
             if path.is_file()}
    kept = {"records", "curves", "scores", "study.json"} | ({"params"} if weights else set())
    assert found and found == {path.relative_to(study): path.read_bytes() for path in study.rglob("*")
                               if path.is_file() and path.relative_to(study).parts[0] in kept}
    assert records.load_records(tmp_path / "back").equals(records.load_records(study))
    if weights:
        text = scaling.restore(study).generate(["x"], tokens=5, temperature=0)
        assert scaling.restore(tmp_path / "back").generate(["x"], tokens=5, temperature=0) == text
    else:
        with pytest.raises(RestoreError, match="are missing"):
            scaling.restore(tmp_path / "back")


def test_a_bundle_says_what_was_installed_and_is_the_same_each_time(study, tmp_path):
    about = bundle.pack(study, tmp_path / "a.zip")
    bundle.pack(study, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert about["versions"]["jax"] == [records.versions()["jax"]] and about["versions"]["machine"] == ["8 devices (cpu)"]
    licences = {name.split(" ")[0]: licence for name, licence in about["licences"].items()}
    assert licences["jax"] == "Apache-2.0" and "BSD" in licences["numpy"] and len(licences) > 15


def test_nothing_is_overwritten(study, tmp_path):
    bundle.pack(study, tmp_path / "study.zip")
    for make in (lambda: bundle.pack(study, tmp_path / "study.zip"), lambda: bundle.unpack(tmp_path / "study.zip", study)):
        with pytest.raises(bundle.BundleError, match="overwritten; name"):
            make()
    with pytest.raises(bundle.BundleError, match="holds no runs"):
        bundle.pack(tmp_path, tmp_path / "nothing.zip")


def altered(contents):
    name = next(name for name in contents if name.startswith("records/"))
    contents[name] = contents[name][:-1]


def cut(contents):
    del contents[next(name for name in contents if name.startswith("curves/"))]


def added(contents):
    contents["more.txt"] = b""


def escaping(contents):
    about = json.loads(contents[bundle.ABOUT])
    about["files"]["../x"] = ""
    contents[bundle.ABOUT] = json.dumps(about).encode()


def newer(contents):
    contents[bundle.ABOUT] = json.dumps({**json.loads(contents[bundle.ABOUT]), "format": 99}).encode()


def headless(contents):
    del contents[bundle.ABOUT]


@pytest.mark.parametrize(("change", "said"), [
    (altered, "is missing or was changed"), (cut, "is missing or was changed"), (added, "does not belong to it, more.txt"),
    (escaping, "a file outside of its folder"), (newer, "has format 99"), (headless, "is no bundle of a study")])
def test_what_is_not_whole_is_refused_before_anything_is_written(study, tmp_path, change, said):
    bundle.pack(study, tmp_path / "study.zip")
    path = rewritten(tmp_path / "study.zip", tmp_path / "other.zip", change)
    with pytest.raises(bundle.BundleError, match=said):
        bundle.unpack(path, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_file_that_is_no_zip_file_is_refused(tmp_path):
    (tmp_path / "a.zip").write_text("hello")
    with pytest.raises(bundle.BundleError, match="is no bundle of a study"):
        bundle.unpack(tmp_path / "a.zip", tmp_path / "back")

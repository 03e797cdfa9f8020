"""Which files a path names: folders, globs, links in circles, and names with unusual characters."""
import os

import pytest

from scaling.data import listing
from scaling.fields import DataError


@pytest.fixture
def tree(tmp_path):
    for name in ("a.txt", "in [v1]/b c.txt", "in [v1]/deep/d.md", ".hidden/e.txt", "*/f.txt", "é/g.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def names(pattern, kind="text"):
    return [name for name, _ in listing.list_files(kind, str(pattern), "books/*.txt").files]


def test_a_folder_stands_for_all_that_lies_in_it_but_hidden_files(tree):
    everything = ["*/f.txt", "a.txt", "in [v1]/b c.txt", "in [v1]/deep/d.md", "é/g.txt"]
    for pattern in (tree, f"{tree}/", f"{tree}/**", f"{tree}/**/*", f"{tree}/**/**/*"):
        assert names(pattern) == everything
    assert names(f"{tree}/**/*.txt") == [name for name in everything if name.endswith(".txt")]


@pytest.mark.parametrize("pattern, found", [
    ("in [v1]", ["b c.txt", "deep/d.md"]), ("in [v1]/*", ["b c.txt"]), ("in [v1]/b c.txt", ["b c.txt"]),
    ("in [v1]/**/*.md", ["d.md"]), ("*/f.txt", ["f.txt"]), ("[a-z].txt", ["a.txt"]), ("é", ["g.txt"]), ("?/*.txt", [
        "*/f.txt", "é/g.txt"])])
def test_parts_that_exist_as_written_are_no_patterns(tree, pattern, found):
    assert names(tree / pattern) == found


def test_the_home_directory_and_relative_paths(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    monkeypatch.chdir(tree)
    for pattern in ("~/in [v1]", "in [v1]", "./in [v1]/"):
        assert names(pattern) == ["b c.txt", "deep/d.md"]
    assert names("**/*.md") == ["d.md"]


def test_links_in_circles_end_and_are_counted(tree):
    for place, target in (("é/up", tree), ("in [v1]/up", tree), ("in [v1]/deep/same", tree / "in [v1]/deep")):
        os.symlink(target, tree / place)
    os.symlink(tree / "nowhere", tree / "gone.txt")
    for pattern in (tree, f"{tree}/**/*.txt"):
        found = listing.list_files("text", str(pattern), "")
        assert len(found.files) == (5 if pattern == tree else 4)
        assert found.left_out == {"linked_again": 3, "broken_link": 1}


def test_folders_through_links_are_read(tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    os.symlink(tree / "in [v1]", other / "linked")
    assert names(other) == ["b c.txt", "deep/d.md"]


def test_names_that_are_not_utf_8_are_names(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "w") as file:
        file.write("text")
    assert names(tmp_path) == ["caf\ufffd.txt"]


@pytest.mark.parametrize("pattern, says", [("nothing*", "matches no file"), ("empty", "is a folder without files")])
def test_no_file_is_one_sentence(tmp_path, pattern, says):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"{says}.*write a folder, or a glob such as images:"):
        names(tmp_path / pattern, "images")

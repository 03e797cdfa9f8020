"""The map of the code in the README, the list of rooms in docs/architecture.md and the picture of both match the tree."""

import pathlib
import re

import test_structure

from tools import draw_rooms

ROOT = pathlib.Path(__file__).parents[2]
MAP = (ROOT / "README.md").read_text().partition("## Map of the code")[2]
NOT_ROOMS = {"__init__.py"}


def _folders(parent):
    """Folders of code or pages; neither hidden ones nor virtual environments, nor a folder of results."""
    found = [folder for folder in parent.iterdir() if folder.is_dir() and not folder.name.startswith((".", "__"))]
    return {folder.name for folder in found if not (folder / "pyvenv.cfg").exists() and folder.name != "build"
            and (any(folder.rglob("*.py")) or any(folder.rglob("*.md")))}


def _rooms():
    files = {path.name for path in (ROOT / "scaling").glob("*.py")} - NOT_ROOMS
    return _folders(ROOT / "scaling") | files


def _on_the_map():
    return re.findall(r"`([\w./]+)`", "\n".join(line.split("|")[1] for line in MAP.splitlines() if line.startswith("| `")))


def test_the_map_has_every_room_of_the_package_and_no_other():
    shown = [name.removeprefix("scaling/").rstrip("/") for name in _on_the_map() if name.startswith("scaling/")]
    assert sorted(shown) == sorted(_rooms())


def test_the_map_has_every_folder_beside_the_package_and_no_other():
    shown = [name.rstrip("/") for name in _on_the_map() if not name.startswith("scaling/")]
    assert sorted([*shown, "scaling"]) == sorted(_folders(ROOT))


def test_the_page_on_architecture_lists_the_rooms_in_the_order_of_imports():
    listed = re.findall(r"^\d+\. \*\*`([\w.]+)/?`\*\*", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert [name.removesuffix(".py") for name in listed] == list(draw_rooms.ROOMS) == list(test_structure.ROOMS)


def test_the_picture_shows_every_room_and_is_the_one_that_the_tool_draws():
    assert set(draw_rooms.ROOMS) == {room.removesuffix(".py") for room in _rooms()} == draw_rooms.drawn()
    assert draw_rooms.FIGURE.read_text() == draw_rooms.draw(), "run python -m tools.draw_rooms"


def test_the_page_on_architecture_names_every_face():
    page = (ROOT / "docs" / "architecture.md").read_text()
    [listed] = re.findall(r"Several rooms have a face: (.*?) list their public names", page, re.DOTALL)
    assert re.findall(r"`([\w.]+)`", listed) == [face for face in test_structure.FACES if face != "scaling"]

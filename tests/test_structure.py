"""The structure of the package: imports go down one list of rooms, nothing imports in a circle, a name means one thing."""

import ast
import collections
import importlib
import pathlib
import pkgutil
import subprocess

import pytest

import scaling

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ("faces", "fields", "axes", "devices", "cost", "nn", "store", "families", "data", "evaluate", "experiment",
         "results", "exchange", "figures", "laws", "report", "training", "sweeps", "study", "insight",
         "serve", "claims", "pods")  # a room imports from those before it
FACES = ("scaling", "scaling.claims", "scaling.data", "scaling.evaluate", "scaling.exchange", "scaling.experiment",
         "scaling.families", "scaling.laws", "scaling.nn", "scaling.report",
         "scaling.store.checkpoint")  # packages whose __all__ is what others import
SHARED = {  # names with one meaning in several modules
    "main": "of a command", "write": "of a forecast, of a report",
    "Generator": "of each GAN body", "Critic": "of each GAN body",
}
LINES = 300


def modules():
    """{dotted name: path} of every module of the package."""
    found = {}
    for path in (ROOT / "scaling").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name):
    """The modules of the package that a module imports anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
                      for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys() - {name}


IMPORTS = {name: imported(name) for name in MODULES if name != "scaling"}  # which imports lazily, when asked


def room(name):
    return name.split(".")[1] if "." in name else None


def test_every_folder_and_module_of_the_package_is_a_room():
    assert {room(name) for name in MODULES} - {None} == set(ROOMS)


def test_imports_go_down_the_list_of_rooms():
    upward = [f"{name} imports {other}" for name, others in IMPORTS.items() for other in others
              if room(name) and room(other) and ROOMS.index(room(other)) > ROOMS.index(room(name))]
    assert not upward


def test_nothing_imports_in_a_circle():
    state, circles = {}, []

    def visit(name, path):
        if state.get(name) == "open":
            circles.append([*path[path.index(name):], name])
        if name in state:
            return
        state[name] = "open"
        for other in sorted(IMPORTS[name] & IMPORTS.keys()):
            visit(other, [*path, name])
        state[name] = "closed"

    for name in IMPORTS:
        visit(name, [])
    assert not circles


def definitions(kind):
    found = collections.defaultdict(list)
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                found[node.name].append(name)
    return found


@pytest.mark.parametrize("kind", [ast.ClassDef, ast.FunctionDef], ids=["classes", "functions"])
def test_a_name_means_one_thing(kind):
    repeated = {name: where for name, where in definitions(kind).items() if len(where) > 1 and name not in SHARED}
    assert not repeated


def test_a_name_has_one_home():
    """Only faces hand on what another module defines, and who is outside of a face's room imports it from the face."""
    handed_on = []
    for name, path in MODULES.items():
        if name not in FACES and path.name == "__init__.py":
            handed_on += [f"{name} hands on {node.module}" for node in ast.parse(path.read_text()).body
                          if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scaling")]
    assert not handed_on
    behind = {}
    for face in FACES[1:]:
        for node in ast.walk(ast.parse(MODULES[face].read_text())):  # they import under `if TYPE_CHECKING:`
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{face}."):
                behind |= {(node.module, alias.name): face for alias in node.names}
    around = []
    for folder in ("scaling", "experiments", "configs"):
        for path in (ROOT / folder).rglob("*.py"):
            inside = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    faces = {alias.name: behind.get((node.module, alias.name)) for alias in node.names}
                    around += [f"{inside} imports {name} from {node.module}, not from {face}"
                               for name, face in faces.items() if face and not inside.startswith(f"{face}.")]
    assert not around


def test_every_module_imports_and_says_what_it_is():
    for info in pkgutil.walk_packages(scaling.__path__, "scaling."):
        assert importlib.import_module(info.name).__doc__, info.name


def test_files_stay_short():
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout")
    long = {name: count for name in listed.stdout.split() if (ROOT / name).exists()
            and (count := len((ROOT / name).read_text().splitlines())) > LINES}
    assert not long


def test_tests_lie_in_folders_of_the_names_of_the_rooms():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    assert folders <= {*ROOMS, "docs", "experiments", "tools"}

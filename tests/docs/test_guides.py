"""What stands beside the README: the image copies what there is, and one version and licence hold everywhere.

test_pages.py checks the commands, paths, modules and links of AGENTS.md, CONTRIBUTING.md and CHANGELOG.md.
"""

import ast
import pathlib
import re

import pytest
import yaml

import scaling
from experiments.__main__ import commands
from scaling import experiment, families

ROOT = pathlib.Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
GUIDES = ("AGENTS.md", "CONTRIBUTING.md", "CHANGELOG.md")
PATH = re.compile(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:py|md|toml|cff))`")
MADE = ("evaluations/",)  # folders of a workdir, not of the repository
SETUP = next(node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
             if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "setup")
ARGUMENTS = {word.arg: word.value for word in SETUP.keywords}
EXTRAS = {key.value for key in ARGUMENTS["extras_require"].keys}


def test_the_image_copies_what_the_package_is_made_of():
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    assert all((ROOT / name).exists() for name in copied)
    read = set(re.findall(r'pathlib\.Path\("([^"]+)"\)', (ROOT / "setup.py").read_text()))
    assert copied >= {"setup.py", "scaling", "experiments", *read}


def test_the_image_takes_extras_that_exist_and_starts_commands_that_exist():
    asked = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE)
    assert asked and all(set(each.split(",")) <= EXTRAS for each in asked)
    assert set(re.findall(r"^# +docker run .* scaling (\w+) --", DOCKERFILE, re.MULTILINE)) <= set(commands())
    assert 'ENTRYPOINT ["scaling"]' in DOCKERFILE
    configs = re.findall(r"--config=(\S+)", DOCKERFILE)
    assert configs and all((ROOT / config).exists() for config in configs)
    python = re.search(r"^ARG PYTHON=3\.(\d+)$", DOCKERFILE, re.MULTILINE)
    assert int(python[1]) >= int(ARGUMENTS["python_requires"].value.removeprefix(">=3."))


def test_the_citation_has_the_version_and_licence_of_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == ARGUMENTS["version"].value == scaling.__version__
    assert cited["license"] == ARGUMENTS["license"].value and cited["cff-version"] == "1.2.0"
    assert all(cited[field] for field in ("message", "title", "authors", "type"))


@pytest.mark.parametrize("guide", GUIDES)
def test_every_path_of_a_guide_exists(guide):
    paths = PATH.findall((ROOT / guide).read_text())
    assert paths and not [path for path in paths if path not in MADE and not (ROOT / path).exists()]


def test_extras_and_commands_of_the_guides_exist():
    text = "".join((ROOT / guide).read_text() for guide in GUIDES)
    assert {extra for each in re.findall(r"pip install -e '\.\[([\w,]+)\]'", text) for extra in each.split(",")} <= EXTRAS
    named = {*re.findall(r"`scaling (\w+)", text), *re.findall(r"`experiments\.(\w+)`", text)}
    assert len(named) > 4 and named <= set(commands())


def test_the_changes_name_families_that_exist():
    text = (ROOT / "CHANGELOG.md").read_text().partition("### Families and data")[2].partition("* Experts")[0]
    assert set(re.findall(r"`(\w+)`", text)) <= {families.name(family) for family in families.all()}
    assert isinstance(experiment.RESULTS_VERSION, int)  # which the page names

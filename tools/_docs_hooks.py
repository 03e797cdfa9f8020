"""What MkDocs calls when it builds the site, as mkdocs.yml says: pages that are made from the code, and links.

    pip install -e '.[docs]' && mkdocs serve

The README is the home page. The reference of fields, commands and public names is made at every build, and lies in no file.
"""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # MkDocs imports this file alone
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing is computed

from tools import _docs_links, _reference_api, _reference_commands, _reference_fields  # noqa: E402


def generated() -> dict[str, str]:
    """{path in the site: Markdown} of the pages that lie in no file of docs/."""
    faces, flags = _reference_api.faces(), _reference_commands.command_flags()
    return {page: (ROOT / source).read_text(encoding="utf-8") for source, page in _docs_links.HOMES.items()} | {
        "reference/fields.md": _reference_fields.experiment_page(), "reference/data.md": _reference_fields.data_page(),
        "reference/families.md": _reference_fields.families_page(),
        "reference/commands.md": _reference_commands.commands_page(flags, "experiments"),
        "reference/tools.md": _reference_commands.commands_page(flags, "tools"),
    } | {f"reference/api/{_reference_api.page_name(face)}": _reference_api.api_page(face, names, faces)
         for face, names in faces.items()}


def on_config(config):
    """Sets what mkdocs.yml cannot say: the names of headings, and the address of the repository where there is one."""
    config.mdx_configs["toc"]["slugify"] = _docs_links.slug
    if address := _docs_links.repository():
        config.repo_url = address
    return config


def on_files(files, config):
    """Adds the generated pages."""
    from mkdocs.structure.files import File  # here, so that tests make the pages without MkDocs

    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Gives pages from files of the repository the links of the site."""
    sources = {path: source for source, path in _docs_links.sources().items()}
    source = sources.get(page.file.src_uri)
    return _docs_links.rewritten(markdown, source, _docs_links.repository()) if source else markdown

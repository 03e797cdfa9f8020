"""Words are linked where they first appear, explained at the end of the page, and in docs/words.md by the same text."""

from __future__ import annotations

import html
import pathlib
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from report_page import Page, words_of

from scaling.figures.palette import Palette
from scaling.report import comparison, glossary

WORDS_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "words.md"
LINK = re.compile(r'<a class="word" href="#[\w-]+">(.*?)</a>')


def test_the_page_of_words_holds_the_definitions_of_the_glossary():
    assert WORDS_PAGE.read_text().endswith("\n" + glossary.markdown()), "run python -m tools.write_words"


def test_definitions_are_sentences_and_ids_are_unique():
    assert len({word.id for word in glossary.WORDS}) == len(glossary.WORDS)
    for word in glossary.WORDS:
        assert word.meaning.endswith(".") and "|" not in word.meaning and re.fullmatch(r"word-[a-z0-9-]+|word-.", word.id) \
            or not word.id.isascii()
        assert word.regex().search(word.name) or word.pattern


def test_every_entry_is_linked_and_every_link_has_an_entry(workdirs):
    for page in map(words_of, workdirs):
        entries = {name for name in page.ids if name.startswith("word-")}
        links = {value[1:] for value in page.references if value.startswith("#word-")}
        assert links == entries and len(entries) > 20
        assert [element["href"] for element in page.all("a", class_="word")].count("#word-run") == 1


def test_a_page_explains_only_its_own_words(workdirs):
    text, images = (set(words_of(workdir).ids) for workdir in workdirs)
    assert "word-bits-per-byte" in text - images and "word-token" in text - images
    assert "word-kernel-distance" in images - text


def test_the_comparison_has_a_glossary_too(workdirs):
    members = comparison.read_members(workdirs)
    page = Page(comparison.comparison_html(members, Palette(range(2), ()), {}))
    assert {"words", "word-interval", "word-forecast"} <= set(page.ids)
    assert {value[1:] for value in page.references if value.startswith("#word-")} <= set(page.ids)


def test_the_first_appearance_is_the_one_that_is_linked():
    linked, used = glossary.link_words("<p>Two runs &amp; a run.</p><pre>a law</pre><p>The law held.</p>", "tokens", "loss")
    assert linked == ('<p>Two <a class="word" href="#word-run">runs</a> &amp; a run.</p><pre>a law</pre><p>The '
                      '<a class="word" href="#word-law">law</a> <a class="word" href="#word-held">held</a>.</p>')
    assert {"word-run", "word-law", "word-held"} <= {name for name, *_ in used}


@given(st.lists(st.tuples(st.sampled_from(["p", "pre", "b", "h2", "svg", "td", "code"]), st.text(max_size=60)), max_size=6))
@settings(max_examples=30, deadline=None)
def test_links_change_nothing_else(parts):
    text = "".join(f'<{tag} title="a > b">{html.escape(content)} run</{tag}>' for tag, content in parts)
    linked, _ = glossary.link_words(text, "tokens", "loss")
    assert LINK.sub(r"\1", linked) == text
    for tag in ("pre", "h2", "svg", "code"):
        assert not any(LINK.search(inside) for inside in re.findall(rf"<{tag} .*?</{tag}>", linked, re.DOTALL))

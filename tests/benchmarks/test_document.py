"""Sections of a document that commands write."""

import pytest

from benchmarks.document import write_section

DOCUMENT = "# Title\n\n<!-- begin a -->\nold\n<!-- end a -->\n\n<!-- begin b -->\nkept\n<!-- end b -->\n"


def test_a_section_is_replaced_and_the_rest_stays(tmp_path):
    path = tmp_path / "doc.md"
    path.write_text(DOCUMENT)
    write_section("a", "new", path)
    assert path.read_text() == DOCUMENT.replace("\nold\n", "\n\nnew\n\n")


def test_writing_twice_changes_nothing_more(tmp_path):
    path = tmp_path / "doc.md"
    path.write_text(DOCUMENT)
    write_section("a", "new", path)
    once = path.read_text()
    write_section("a", "new", path)
    assert path.read_text() == once


@pytest.mark.parametrize(
    "text",
    ["no marks", "<!-- end a --><!-- begin a -->", "<!-- begin a -->" * 2 + "<!-- end a -->"],
    ids=["no marks", "marks in the wrong order", "a mark twice"],
)
def test_a_document_without_proper_marks_is_refused(tmp_path, text):
    path = tmp_path / "doc.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="needs one"):
        write_section("a", "new", path)

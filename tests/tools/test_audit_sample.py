"""The picture of a report as a file of its own."""

import xml.etree.ElementTree

import pytest

from tools.audit_sample import extract_picture
from validator.audit.progress import Point
from validator.audit.report_picture import draw_martingale
from validator.audit.report_style import STYLE


def build_page(picture: str) -> str:
    return f"<html><style>{STYLE}</style><body>{picture}<svg class='share'></svg></body></html>"


def test_the_picture_is_a_file_with_a_size_and_a_style() -> None:
    points = [Point(index=0, log10_e=1.5, log10_by_channel={"text": 1.5})]
    root = xml.etree.ElementTree.fromstring(extract_picture(build_page(draw_martingale(points, threshold=6, alarm=3))))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert (root.get("width"), root.get("viewBox")) == ("860", "0 0 860 380")
    assert root.find("{http://www.w3.org/2000/svg}style").text == STYLE


def test_a_report_without_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="no picture"):
        extract_picture(build_page(""))

"""The index of a feed names one file per offer, and no file name in it can lead anywhere else."""

from dataclasses import replace

import pytest

from quiver_oracle.mock import build_mock_item
from scoring.errors import InvalidInput
from scoring.feed import build_feed
from scoring.feed_index import FeedIndex, build_feed_index, parse_feed_index

ALICE, BOB = b"\x0a" * 20, b"\x0b" * 20


def build_index(*offers: tuple[bytes, str]) -> FeedIndex:
    return build_feed_index(build_feed([build_mock_item(p, epoch=7, time_s=1, model=model) for p, model in offers]), 7)


def test_a_provider_with_one_offer_has_a_file_of_its_own_name() -> None:
    index = build_index((BOB, "a"), (ALICE, "a"))
    assert [entry.file for entry in index.entries] == [f"0x{provider.hex()}.json" for provider in (ALICE, BOB)]


def test_files_of_several_offers_carry_the_offer() -> None:
    index = build_index((ALICE, "large"), (ALICE, "small"), (BOB, "small"))
    assert [entry.file for entry in index.entries] == [
        *(f"0x{ALICE.hex()}-0x{entry.offer_digest.hex()}.json" for entry in index.entries[:2]),
        f"0x{BOB.hex()}.json",
    ]


def test_an_index_is_read_back() -> None:
    for index in (build_index(), build_index((ALICE, "large"), (ALICE, "small"))):
        assert parse_feed_index(index.encode()) == index


@pytest.mark.parametrize(
    "file",
    [
        "../../secret.json",
        "0x.json",
        "http://evil.example/",
        "0x" + "AA" * 20 + ".json",
        f"0x{ALICE.hex()}.json/../x",
        "",
    ],
)
def test_refuses_file_names_in_an_index(file: str) -> None:
    entry = build_index((ALICE, "a")).entries[0]
    with pytest.raises(InvalidInput, match="not the name of a proof file"):
        replace(entry, file=file)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a negative epoch", b'{"entries":[],"epoch":-1,"kind":"quiver-feed-index-v1"}'),
        ("a true epoch", b'{"entries":[],"epoch":true,"kind":"quiver-feed-index-v1"}'),
        ("entries that are no list", b'{"entries":{},"epoch":1,"kind":"quiver-feed-index-v1"}'),
        ("an unknown key", b'{"a":1,"entries":[],"epoch":1,"kind":"quiver-feed-index-v1"}'),
        ("an entry that is no object", b'{"entries":[1],"epoch":1,"kind":"quiver-feed-index-v1"}'),
    ],
)
def test_refuses_indexes(name: str, data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_feed_index(data)

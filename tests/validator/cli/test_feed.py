"""`quiver feed`: scores from a relay that nobody trusts, and from a file."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quiver_oracle.mock import MockFeed, build_mock_item, build_mock_network
from scoring.errors import InvalidInput, Unavailable
from scoring.feed_index import FeedIndex
from scoring.records import Flag
from validator.cli import main
from validator.cli.http import download
from validator.cli.output import write_file

ALICE, BOB = b"\x0a" * 20, b"\x0b" * 20
NETWORK = build_mock_network()
FOREIGN = build_mock_network(name="foreign")
AGE_S = 100


class Files:
    """A proof of Alice's score, `AGE_S` old, and the validator set, as files."""

    def __init__(self, folder: Path) -> None:
        item = build_mock_item(ALICE, epoch=7, time_s=int(time.time()) - AGE_S, flags=int(Flag.PROVISIONAL))
        self.proof = folder / "proof.json"
        self.validator_set = folder / "set.json"
        self.proof.write_bytes(NETWORK.publish([item, build_mock_item(BOB, epoch=7, time_s=item.time_s)])[0].encode())
        self.validator_set.write_bytes(NETWORK.validator_set_file.encode())

    def verify(self, max_age_s: object = 3600, *more: str) -> int:
        options = ["--validator-set", str(self.validator_set), "--max-age", str(max_age_s)]
        return main(["feed", "verify", str(self.proof), *options, *more])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_good_file_is_verified_and_told_in_words(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.verify() == 0
    output = capsys.readouterr()
    assert output.err == ""
    for part in ("trust     900 of 1000 (between 880 and 920)", f"0x{ALICE.hex()}", "7, 10", "provisional", "yes: "):
        assert part in output.out


def test_the_same_for_machines(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.verify(3600, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verified"], document["flags"], document["item"]["trust"]) == (True, ["provisional"], 900)


def test_the_age_has_no_default(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["feed", "verify", str(files.proof), "--validator-set", str(files.validator_set)]
    assert main(arguments) == 2
    assert "Missing option '--max-age'" in capsys.readouterr().err
    assert main(["feed", "get", "--url", "http://127.0.0.1:1", "--provider", f"0x{ALICE.hex()}"]) == 2
    assert "Missing option '--max-age'" in capsys.readouterr().err


@pytest.mark.parametrize("max_age", ["-1", "soon", "1.5", ""])
def test_an_age_is_a_number_of_seconds(files: Files, max_age: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.verify(max_age) == 2
    assert "'--max-age'" in capsys.readouterr().err


def edit(old: bytes, new: bytes) -> Callable[[Files], None]:
    return lambda files: write_file(files.proof, files.proof.read_bytes().replace(old, new, 1))


def write_proof(data: bytes) -> Callable[[Files], None]:
    return lambda files: write_file(files.proof, data)


def write_set(data: bytes) -> Callable[[Files], None]:
    return lambda files: write_file(files.validator_set, data)


def truncate(files: Files) -> None:
    write_file(files.proof, files.proof.read_bytes()[:-20])


def truncate_set(files: Files) -> None:
    write_file(files.validator_set, files.validator_set.read_bytes()[:-20])


def swap(files: Files) -> None:
    files.proof, files.validator_set = files.validator_set, files.proof


def sign_for_one_seat_less(files: Files) -> None:
    item = build_mock_item(ALICE, epoch=7, time_s=int(time.time()))
    proof = NETWORK.publish([item])[0]
    write_file(files.proof, replace(proof, certificate=replace(proof.certificate, signers=b"\x07")).encode())


REFUSED: list[tuple[str, Callable[[Files], None], int, str]] = [
    ("forged trust", edit(b'"trust":900', b'"trust":901'), 1, "the Merkle proof does not lead from the item"),
    ("forged epoch", edit(b'"epoch":7', b'"epoch":8'), 1, "the certificate signs another record"),
    ("other signers", sign_for_one_seat_less, 1, "aggregate signature does not match its signers: forged or damaged"),
    (
        "a foreign network's set",
        write_set(FOREIGN.validator_set_file.encode()),
        1,
        "from a foreign network: chain 31337",
    ),
    (
        "another set of the network",
        write_set(
            replace(
                NETWORK.validator_set_file,
                validator_set=replace(NETWORK.validator_set, validators=NETWORK.validator_set.validators[:3]),
            ).encode()
        ),
        1,
        "certified by another validator set than the trusted one: refresh the validator-set file",
    ),
    ("truncated", truncate, 2, "not JSON"),
    ("nothing", write_proof(b""), 2, "not JSON"),
    ("written for people", edit(b'"trust":900', b'"trust": 900'), 2, "not canonical JSON"),
    ("not UTF-8", edit(b'"trust"', b'"tr\xffst"'), 2, "not UTF-8"),
    ("huge", write_proof(b" " * (4 * 1024 * 1024 + 1)), 2, "is over the limit of 4194304 bytes"),
    ("the two files swapped", swap, 2, "kind: expected quiver-feed-proof-v1, got quiver-validator-set-v1"),
    ("a truncated set", truncate_set, 2, "not JSON"),
    ("a file that is not there", lambda files: files.proof.unlink(), 2, "No such file or directory"),
    ("a set that is not there", lambda files: files.validator_set.unlink(), 2, "No such file or directory"),
]


@pytest.mark.parametrize(("name", "spoil", "code", "sentence"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refuses_a_file(
    files: Files,
    name: str,
    spoil: Callable[[Files], None],
    code: int,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(files)
    assert files.verify() == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("quiver: ") and output.err.count("\n") == 1
    assert sentence in output.err


def test_refuses_a_stale_file_and_says_how_old_it_is(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.verify(AGE_S // 2) == 1
    assert f"s old where at most {AGE_S // 2} s is accepted" in capsys.readouterr().err
    assert files.verify(0) == 1


@pytest.fixture
def feed(relay: Any) -> MockFeed:
    published = MockFeed(NETWORK)
    published.publish([build_mock_item(provider, epoch=7, time_s=int(time.time())) for provider in (ALICE, BOB)])
    published.files["/v1/validator-set"] = NETWORK.validator_set_file.encode()
    relay.files = published.files
    return published


def get(url: str, *more: object, provider: bytes = ALICE) -> int:
    given = ["feed", "get", "--url", url, "--provider", f"0x{provider.hex()}", "--max-age", "60"]
    return main([*given, *map(str, more)])


def test_gets_a_score_under_the_set_that_the_reader_trusts(
    relay: Any, feed: MockFeed, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = files.proof.with_name("kept.json")
    assert get(relay.url + "/", "--validator-set", files.validator_set, "--save", kept, "--json", provider=BOB) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert json.loads(output.out)["item"]["provider"] == f"0x{BOB.hex()}"
    files.proof = kept
    assert files.verify(60) == 0


def test_says_so_when_the_set_comes_from_the_same_relay(
    relay: Any, feed: MockFeed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(relay.url) == 0
    assert "taking the validator set from the same URL" in capsys.readouterr().err


def test_a_provider_with_several_offers_is_asked_which(
    relay: Any, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    offers = MockFeed(NETWORK)
    items = [build_mock_item(ALICE, epoch=7, time_s=int(time.time()), model=model) for model in ("large", "small")]
    offers.publish(items)
    relay.files = offers.files
    trusting = ("--validator-set", files.validator_set)
    assert get(relay.url, *trusting) == 2
    sentence = capsys.readouterr().err
    assert "the provider has 2 offers, name one" in sentence
    for item in items:
        digest = f"0x{item.offer_digest.hex()}"
        assert digest in sentence
        assert get(relay.url, *trusting, "--json", "--offer", "0x" + digest[2:].upper()) == 0
        assert json.loads(capsys.readouterr().out)["item"]["offer_digest"] == digest


@pytest.mark.parametrize("offer", ["0x12", "zz", "", "0x" + "0" * 66])
def test_refuses_an_offer_that_is_none(offer: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert get("http://127.0.0.1:1", "--offer", offer) == 2
    assert "--offer: expected" in capsys.readouterr().err


def serve_foreign(relay: Any) -> None:
    foreign = MockFeed(FOREIGN)
    foreign.publish([build_mock_item(ALICE, epoch=7, time_s=int(time.time()))])
    relay.files = foreign.files


def serve_old(relay: Any) -> None:
    old = MockFeed(NETWORK)
    old.publish([build_mock_item(ALICE, epoch=6, time_s=int(time.time()) - 600)])
    relay.files = old.files


PROOF_PATH = f"/v1/feed/7/0x{ALICE.hex()}.json"
RELAYS: list[tuple[str, Callable[[Any], object], int, str]] = [
    ("a foreign network", serve_foreign, 1, "foreign network"),
    ("an old epoch", serve_old, 1, "stale: "),
    (
        "a forged score",
        lambda relay: relay.files.update({PROOF_PATH: relay.files[PROOF_PATH].replace(b'"trust":900', b'"trust":999')}),
        2,
        "trust: expected trust_low <= trust <= trust_high",
    ),
    (
        "a forged flag",
        lambda relay: relay.files.update({PROOF_PATH: relay.files[PROOF_PATH].replace(b'"flags":0', b'"flags":1')}),
        1,
        "the Merkle proof does not lead from the item",
    ),
    (
        "a truncated proof",
        lambda relay: relay.files.update({PROOF_PATH: relay.files[PROOF_PATH][:300]}),
        2,
        "not JSON",
    ),
    ("an index that is none", lambda relay: relay.files.update({"/v1/feed/latest": b""}), 2, "not JSON"),
    (
        "no such provider",
        lambda relay: relay.files.update({"/v1/feed/latest": FeedIndex(epoch=7, entries=()).encode()}),
        3,
        "the relay has no item of provider",
    ),
    ("nothing at all", lambda relay: relay.files.clear(), 3, "answered with status 404"),
]


@pytest.mark.parametrize(("name", "spoil", "code", "sentence"), RELAYS, ids=[row[0] for row in RELAYS])
def test_believes_no_relay(
    relay: Any,
    feed: MockFeed,
    files: Files,
    name: str,
    spoil: Callable[[Any], object],
    code: int,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(relay)
    assert get(relay.url, "--validator-set", files.validator_set, "--save", files.proof.with_name("kept")) == code
    assert sentence in capsys.readouterr().err
    assert not files.proof.with_name("kept").exists()


@pytest.mark.parametrize("url", ["relay.example", "ftp://relay.example", "file:///etc/passwd"])
def test_refuses_urls(url: str, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(url) == 2
    assert get(url, "--validator-set", files.validator_set) == 2
    assert capsys.readouterr().err.count("url: expected a URL with http:// or https://") == 2


def test_a_relay_that_is_not_there_leaves_it_undecided(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert get("http://127.0.0.1:1", "--validator-set", files.validator_set) == 3
    assert "ConnectError" in capsys.readouterr().err


def test_a_download_ends_at_its_limits(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    relay.files["/x"] = b"12345"
    assert download(relay.url + "/x", 5) == b"12345"
    with pytest.raises(InvalidInput, match="sent more than 4 bytes"):
        download(relay.url + "/x", 4)
    with pytest.raises(Unavailable, match="status 404"):
        download(relay.url + "/y", 100)
    monkeypatch.setattr("validator.cli.http.TIMEOUT_S", 0.0)
    with pytest.raises(Unavailable):
        download(relay.url + "/x", 5)


def test_a_result_that_cannot_be_written_is_said(files: Files, relay: Any, feed: MockFeed, tmp_path: Path) -> None:
    assert get(relay.url, "--validator-set", files.validator_set, "--save", tmp_path / "no" / "where") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["proof.json", "set.json"]

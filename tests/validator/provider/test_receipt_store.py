"""The receipt store: counters that never repeat, one receipt for a nonce, answers that survive a restart."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from challenges.signed import SignedReceipt, sign_receipt
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, Unavailable
from scoring.records import Receipt
from validator.provider.receipt_store import ReceiptStore

DOMAIN = Domain(chain_id=7, verifying_contract=b"v" * 20)
ALICE, BOB = b"a" * 20, b"b" * 20


def nonce(number: int) -> bytes:
    return number.to_bytes(32, "big")


def signer(number: int, consumer: bytes = ALICE, expires_s: int = 2_000):
    def sign(counter: int) -> SignedReceipt:
        receipt = Receipt(
            network=b"n" * 32, offer_digest=b"o" * 32, provider=b"p" * 20, consumer=consumer, nonce=nonce(number),
            request_digest=b"q" * 32, response_digest=b"r" * 32, token_ids_digest=bytes(32), temperature_ppm=0,
            top_p_ppm=0, max_tokens=1, is_seeded=False, seed=0, prompt_tokens=1, completion_tokens=1,
            input_price_wei=0, output_price_wei=0, counter=counter, issued_s=1_000, expires_s=expires_s,
        )  # fmt: skip
        return sign_receipt(receipt, DOMAIN, b"k" * 32)

    return sign


def issue(store: ReceiptStore, number: int, consumer: bytes = ALICE, body: bytes | None = b"body", **more) -> int:
    signed = store.issue(consumer, nonce(number), "json", signer(number, consumer, **more), lambda _: body)
    return signed.receipt.counter


@pytest.fixture
def store(tmp_path):
    opened = ReceiptStore(tmp_path / "receipts.sqlite")
    yield opened
    opened.close()


def test_counts_from_one_for_each_consumer(store) -> None:
    assert [issue(store, 1), issue(store, 2), issue(store, 1, BOB), issue(store, 3)] == [1, 2, 1, 3]


def test_a_restart_continues_the_counters_and_repeats_the_answers(tmp_path) -> None:
    first = ReceiptStore(tmp_path / "receipts.sqlite")
    issue(first, 1)
    first.close()
    second = ReceiptStore(tmp_path / "receipts.sqlite")
    assert issue(second, 2) == 2
    given = second.find(ALICE, nonce(1))
    assert (given.form, given.body, given.request_digest) == ("json", b"body", b"q" * 32)
    second.close()


def test_a_nonce_gets_one_receipt_and_a_refused_second_uses_no_counter(store) -> None:
    issue(store, 1)
    with pytest.raises(InvalidInput, match="answered already"):
        issue(store, 1)
    assert issue(store, 2) == 2


def test_the_same_nonce_of_another_consumer_is_another_nonce(store) -> None:
    issue(store, 1, ALICE, b"for alice")
    issue(store, 1, BOB, b"for bob")
    assert store.find(BOB, nonce(1)).body == b"for bob"


def test_a_failure_to_sign_or_to_finish_uses_no_counter(store) -> None:
    def broken(_):
        raise RuntimeError("no")

    for sign, finish in ((broken, lambda _: b""), (signer(1), broken)):
        with pytest.raises(RuntimeError):
            store.issue(ALICE, nonce(1), "json", sign, finish)
    assert store.find(ALICE, nonce(1)) is None
    assert issue(store, 1) == 1


def test_the_receipt_is_on_disk_before_it_is_returned(tmp_path) -> None:
    # The process is killed right after `issue` has returned, without closing anything.
    script = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); import test_receipt_store as t\n"
        "s = t.ReceiptStore(Path(sys.argv[1])); t.issue(s, 1); os._exit(9)"
    )
    from pathlib import Path

    path = tmp_path / "receipts.sqlite"
    ended = subprocess.run([sys.executable, "-c", script, str(path), str(Path(__file__).parent)], check=False)
    assert ended.returncode == 9
    after = ReceiptStore(path)
    assert issue(after, 2) == 2
    assert after.find(ALICE, nonce(1)).body == b"body"
    after.close()


def test_two_stores_on_one_file_share_the_counter(tmp_path) -> None:
    stores = [ReceiptStore(tmp_path / "receipts.sqlite") for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        counters = list(pool.map(lambda n: issue(stores[n % 2], n), range(40)))
    assert sorted(counters) == list(range(1, 41))
    for opened in stores:
        opened.close()


def test_keeps_the_bytes_of_the_newest_answers_only_but_every_nonce(tmp_path) -> None:
    store = ReceiptStore(tmp_path / "receipts.sqlite", max_kept_answers=2)
    for number in range(5):
        issue(store, number)
    store.prune(now_s=1_000)
    assert [store.find(ALICE, nonce(number)).body for number in range(5)] == [None, None, None, b"body", b"body"]
    store.close()


def test_prunes_by_itself(tmp_path) -> None:
    store = ReceiptStore(tmp_path / "receipts.sqlite", max_kept_answers=2)
    for number in range(64):
        issue(store, number)
    assert store.find(ALICE, nonce(0)).body is None
    store.close()


def test_forgets_a_nonce_only_when_its_receipt_has_expired_and_never_the_counter(store) -> None:
    issue(store, 1, expires_s=1_500)
    store.prune(now_s=1_499)
    assert store.find(ALICE, nonce(1)) is not None
    store.prune(now_s=1_500)
    assert store.find(ALICE, nonce(1)) is None
    assert issue(store, 1) == 2


def test_lists_receipts_in_order_of_their_counters(store) -> None:
    for number in range(4):
        issue(store, number)
    assert [signed.receipt.counter for signed in store.list_receipts(ALICE, first_counter=2, limit=2)] == [2, 3]
    assert store.list_receipts(BOB) == []


def test_an_answer_too_large_to_keep_is_remembered_without_its_bytes(store) -> None:
    issue(store, 1, body=None)
    assert store.find(ALICE, nonce(1)).body is None


def test_a_counter_cannot_be_lowered_in_the_database(tmp_path, store) -> None:
    issue(store, 1)
    connection = sqlite3.connect(tmp_path / "receipts.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="counters only rise"):
        connection.execute("UPDATE counters SET counter = 1")
    connection.close()


def test_a_damaged_file_is_unavailable(tmp_path) -> None:
    (tmp_path / "receipts.sqlite").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(Unavailable):
        ReceiptStore(tmp_path / "receipts.sqlite")

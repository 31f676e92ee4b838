"""The choice of backend, the self-test, the cache of decoded keys, and the random linear combination of a batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from scoring import _bls_pyblst, bls
from scoring._bls_scheme import CACHED_PUBLIC_KEYS, Scheme
from scoring.errors import InvalidInput

REPOSITORY = Path(__file__).parents[2]
SKS = [index.to_bytes(32, "big") for index in range(1, 9)]
PKS = [bls.sk_to_pk(sk) for sk in SKS]
MESSAGE = b"checkpoint"


class WatchedCurve:
    """The pyblst backend, counting what it decodes, with one operation replaced where a test wants it wrong."""

    def __init__(self, **replaced: Any) -> None:
        self.decoded_keys = 0
        self._replaced = replaced

    def decode_g1(self, encoded: bytes) -> Any:
        self.decoded_keys += 1
        return _bls_pyblst.decode_g1(encoded)

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(_bls_pyblst, name)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the code in a fresh interpreter in the repository's root."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_pyblst_is_the_default_backend() -> None:
    for chosen in ({}, {"QUIVER_BLS_BACKEND": ""}, {"QUIVER_BLS_BACKEND": "pyblst"}):
        result = run_python("from scoring import bls; print(bls.BACKEND)", **chosen)
        assert result.stdout == "pyblst\n"


def test_the_environment_chooses_py_ecc_which_signs_the_same_bytes() -> None:
    code = "from scoring import bls; print(bls.BACKEND, bls.sign(bytes(31) + b'\\x05', b'checkpoint').hex())"
    result = run_python(code, QUIVER_BLS_BACKEND="py_ecc")
    assert result.stdout.split() == ["py_ecc", bls.sign(SKS[4], MESSAGE).hex()], result.stderr


def test_an_unknown_backend_is_refused_with_the_names_of_the_known_ones() -> None:
    result = run_python("import scoring.bls", QUIVER_BLS_BACKEND="blspy")
    assert result.returncode != 0
    assert "InvalidInput: QUIVER_BLS_BACKEND: must be pyblst or py_ecc, not 'blspy'" in result.stderr


def test_without_py_ecc_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['py_ecc'] = None; import scoring.bls"
    result = run_python(code, QUIVER_BLS_BACKEND="py_ecc")
    assert (
        "MissingExtra: the BLS backend py_ecc is not installed: pip install 'quiver-oracle[validator]'" in result.stderr
    )


def test_the_default_backend_does_not_load_py_ecc() -> None:
    result = run_python("import sys, scoring.bls; print([name for name in sys.modules if name.startswith('py_ecc')])")
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    "replaced",
    [
        {"is_pairing_product_equal": lambda pairs, signature: True},
        {"is_pairing_product_equal": lambda pairs, signature: False},
        {"hash_to_g2": lambda message, dst: _bls_pyblst.hash_to_g2(message, dst + b"!")},
        {"multiply": lambda point, scalar: _bls_pyblst.multiply(point, scalar + 1)},
        {"multiply_generator_g1": lambda scalar: _bls_pyblst.multiply_generator_g1(scalar + 1)},
    ],
    ids=["accepts all", "accepts nothing", "hashes wrongly", "multiplies wrongly", "derives wrongly"],
)
def test_the_self_test_finds_a_backend_that(replaced: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="self-test"):
        bls.verify_known_answer(Scheme(WatchedCurve(**replaced)), "broken")


def test_the_self_test_takes_less_than_ten_milliseconds() -> None:
    def measure_s() -> float:
        start = perf_counter()
        bls.build_scheme("pyblst")
        return perf_counter() - start

    assert min(measure_s() for _ in range(5)) < 0.010


def test_a_known_key_is_decoded_once() -> None:
    curve = WatchedCurve()
    scheme = Scheme(curve)
    signature = scheme.aggregate([scheme.sign(sk, MESSAGE) for sk in SKS])
    for _ in range(3):
        assert scheme.fast_aggregate_verify(PKS, MESSAGE, signature)
        assert scheme.key_validate(PKS[0])
    assert curve.decoded_keys == len(PKS)


def test_garbage_does_not_push_known_keys_out_of_the_cache() -> None:
    curve = WatchedCurve()
    scheme = Scheme(curve)
    assert scheme.key_validate(PKS[0])
    for number in range(CACHED_PUBLIC_KEYS + 10):
        assert not scheme.key_validate(number.to_bytes(48, "big"))
    decoded_before = curve.decoded_keys
    assert scheme.key_validate(PKS[0])
    assert curve.decoded_keys == decoded_before


def test_the_cache_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoring._bls_scheme.CACHED_PUBLIC_KEYS", 4)
    curve = WatchedCurve()
    scheme = Scheme(curve)
    for _ in range(2):
        assert all(scheme.key_validate(pk) for pk in PKS)
    assert curve.decoded_keys == 2 * len(PKS)


def test_a_batch_finds_errors_that_cancel_in_the_plain_sum() -> None:
    offset = _bls_pyblst.hash_to_g2(b"any point", b"test")
    first, second = (_bls_pyblst.decode_g2(bls.sign(sk, MESSAGE)) for sk in SKS[:2])
    forged = [_bls_pyblst.encode_g2(first + offset), _bls_pyblst.encode_g2(second + -offset)]
    assert bls.fast_aggregate_verify(PKS[:2], MESSAGE, bls.aggregate(forged))
    items = [(pk, MESSAGE, signature) for pk, signature in zip(PKS, forged, strict=False)]
    assert not bls.batch_verify(items)
    assert not any(bls.batch_verify(items, entropy=bytes([seed])) for seed in range(20))


def test_every_coefficient_of_a_batch_hangs_on_every_byte() -> None:
    used: list[int] = []

    def record(point: Any, scalar: int) -> Any:
        used.append(scalar)
        return _bls_pyblst.multiply(point, scalar)

    scheme = Scheme(WatchedCurve(multiply=record))
    items = [(pk, MESSAGE, bls.sign(sk, MESSAGE)) for sk, pk in zip(SKS[:3], PKS, strict=False)]

    def collect(*arguments: Any) -> list[int]:
        used.clear()
        scheme.batch_verify(*arguments)
        return list(used)

    runs = [
        collect(items),
        collect(items, b"entropy"),
        collect(items[::-1]),
        collect([*items[:2], (PKS[2], MESSAGE + b"!", items[2][2])]),
        collect([*items[:2], (PKS[2], MESSAGE, items[1][2])]),
        collect([*items[:2], (PKS[3], MESSAGE, items[2][2])]),
    ]
    assert all(run[:3] == run[3:] and len(set(run)) == 3 for run in runs)
    assert len({coefficient for run in runs for coefficient in run}) == 18
    assert all(0 < coefficient < 1 << 128 for run in runs for coefficient in run)
    assert collect(items) == runs[0]


def test_no_message_of_a_refusal_shows_the_secret_key() -> None:
    secret = b"\xfe" * 32
    with pytest.raises(InvalidInput) as refusal:
        bls.sign(secret, MESSAGE)
    assert "fe" * 4 not in str(refusal.value).lower() and str(int.from_bytes(secret, "big")) not in str(refusal.value)


@pytest.mark.slow
def test_the_benchmark_keeps_its_promises() -> None:
    """512 known keys: within 1.5 times of raw pyblst, over 100 times faster than py_ecc with its keys known too."""
    code = "import sys; sys.argv += ['--quick', '--json']; from benchmarks.bls import main; main()"
    result = run_python(code)
    rows = {row["operation"]: row for row in json.loads(result.stdout)}
    assert rows["fast_aggregate_verify 512"]["overhead_ratio"] < 1.5
    assert rows["fast_aggregate_verify 512"]["speedup_ratio"] > 100
    assert rows["sign"]["speedup_ratio"] > 100

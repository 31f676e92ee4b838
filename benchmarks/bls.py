"""What BLS costs: each operation with pyblst alone, through our scheme, and through the py_ecc reference, side by side.

    python -m benchmarks.bls [--quick] [--json]

"raw" is the fewest pyblst calls that do the same work, with public keys decoded beforehand and nothing checked that
pyblst does not check itself. The columns of a row are timed in turn, round after round, and the median of each is
shown, so a machine that slows down meanwhile slows both pyblst columns alike; the reference runs in the first rounds
only. Every column knows (has decoded) the public keys.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial, reduce
from operator import add, mul
from statistics import median
from time import thread_time_ns
from typing import Any

from pyblst import BlstP1Element, BlstP2Element, final_verify, miller_loop

from scoring import bls
from scoring._bls_scheme import SIGNATURE_DST

MESSAGE = b"\x12" * 32
SIGNER_COUNTS = (128, 512)
MOST_SIGNERS = max(SIGNER_COUNTS)
BATCH_SIZE = 64
# The columns before this one are timed in every round; the reference comes last.
FAST_COLUMNS = 2
# Public, and good for nothing but timing: the secret key of signer i is i + 1 times this.
_SCALAR_STEP = 0x1F3A7B5C9D2E4F6081A3C5E7092B4D6F8

Operation = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians for one operation, in microseconds; None where the slow reference was left out."""

    operation: str
    raw_us: float
    pyblst_us: float
    py_ecc_us: float | None

    @property
    def overhead_ratio(self) -> float:
        """How many times the raw cost our scheme takes."""
        return self.pyblst_us / self.raw_us

    @property
    def speedup_ratio(self) -> float | None:
        """How many times faster than the reference our scheme is."""
        return None if self.py_ecc_us is None else self.py_ecc_us / self.pyblst_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Keys and signatures of MOST_SIGNERS signers: each signed MESSAGE, the first BATCH_SIZE also one of their own."""

    sks: list[bytes]
    pks: list[bytes]
    signatures: list[bytes]
    items: list[tuple[bytes, bytes, bytes]]


class RawPyblst:
    """The same operations in pyblst calls alone; public keys come as points."""

    def __init__(self) -> None:
        self._generator = BlstP1Element.uncompress(bls.sk_to_pk((1).to_bytes(32, "big")))

    def sign(self, scalar: int, message: bytes) -> bytes:
        """Hash, multiply, compress."""
        return bytes(BlstP2Element.hash_to_group(message, SIGNATURE_DST).scalar_mul(scalar).compress())

    def verify(self, point: Any, message: bytes, signature: bytes) -> bool:
        """Decode the signature, hash, pair twice."""
        hashed = BlstP2Element.hash_to_group(message, SIGNATURE_DST)
        right = miller_loop(self._generator, BlstP2Element.uncompress(signature))
        return bool(final_verify(miller_loop(point, hashed), right))

    def aggregate(self, signatures: list[bytes]) -> bytes:
        """Decode, add, compress."""
        return bytes(reduce(add, map(BlstP2Element.uncompress, signatures)).compress())

    def fast_aggregate_verify(self, points: list[Any], message: bytes, signature: bytes) -> bool:
        """Add the keys, then verify."""
        return self.verify(reduce(add, points), message, signature)

    def batch_verify(self, points: list[Any], items: list[tuple[bytes, bytes, bytes]], scalar: int) -> bool:
        """Do the work of the random linear combination, with one scalar in place of the coefficients."""
        total = reduce(add, [BlstP2Element.uncompress(signature).scalar_mul(scalar) for _, _, signature in items])
        loops = [
            miller_loop(point.scalar_mul(scalar), BlstP2Element.hash_to_group(message, SIGNATURE_DST))
            for point, (_, message, _) in zip(points, items, strict=True)
        ]
        return bool(final_verify(reduce(mul, loops), miller_loop(self._generator, total)))


def build_signers() -> Signers:
    """Return the signers of every run: the same keys and messages each time."""
    sks = [(index * _SCALAR_STEP).to_bytes(32, "big") for index in range(1, MOST_SIGNERS + 1)]
    pks = [bls.sk_to_pk(sk) for sk in sks]
    own_messages = [index.to_bytes(32, "big") for index in range(BATCH_SIZE)]
    items = [(pk, message, bls.sign(sk, message)) for sk, pk, message in zip(sks, pks, own_messages, strict=False)]
    return Signers(sks=sks, pks=pks, signatures=[bls.sign(sk, MESSAGE) for sk in sks], items=items)


def build_raw_operations(signers: Signers) -> dict[str, Operation]:
    """Return each operation in raw pyblst, by name."""
    raw = RawPyblst()
    points = [BlstP1Element.uncompress(pk) for pk in signers.pks]
    operations: dict[str, Operation] = {
        "sign": partial(raw.sign, _SCALAR_STEP, MESSAGE),
        "verify": partial(raw.verify, points[0], MESSAGE, signers.signatures[0]),
    }
    for count in SIGNER_COUNTS:
        some, whole = signers.signatures[:count], bls.aggregate(signers.signatures[:count])
        operations[f"aggregate {count}"] = partial(raw.aggregate, some)
        operations[f"fast_aggregate_verify {count}"] = partial(
            raw.fast_aggregate_verify, points[:count], MESSAGE, whole
        )
    batch = partial(raw.batch_verify, points[:BATCH_SIZE], signers.items, (1 << 128) - 3)
    return operations | {f"batch_verify {BATCH_SIZE}": batch}


def build_scheme_operations(scheme: bls.Scheme, signers: Signers) -> dict[str, Operation]:
    """Return each operation through the scheme, by name."""
    operations: dict[str, Operation] = {
        "sign": partial(scheme.sign, signers.sks[0], MESSAGE),
        "verify": partial(scheme.verify, signers.pks[0], MESSAGE, signers.signatures[0]),
    }
    for count in SIGNER_COUNTS:
        some, whole = signers.signatures[:count], bls.aggregate(signers.signatures[:count])
        operations[f"aggregate {count}"] = partial(scheme.aggregate, some)
        operations[f"fast_aggregate_verify {count}"] = partial(
            scheme.fast_aggregate_verify, signers.pks[:count], MESSAGE, whole
        )
    return operations | {f"batch_verify {BATCH_SIZE}": partial(scheme.batch_verify, signers.items)}


def measure_rows(quick: bool) -> list[Row]:
    """Return the medians of every operation; quick runs fewer rounds and spares the reference what takes it seconds."""
    signers = build_signers()
    reference = bls.build_scheme("py_ecc")
    raw = build_raw_operations(signers)
    fast = build_scheme_operations(bls.build_scheme("pyblst"), signers)
    slow = build_scheme_operations(reference, signers)
    for pk in signers.pks:
        reference.key_validate(pk)
    rows = []
    for name in raw:
        is_spared = quick and name.startswith(("aggregate", "batch_verify"))
        columns = [raw[name], fast[name]] + ([] if is_spared else [slow[name]])
        rows.append(measure_row(name, columns, rounds=11 if quick else 31, slow_rounds=1 if quick else 3))
    return rows


def measure_row(name: str, columns: list[Operation], rounds: int, slow_rounds: int) -> Row:
    """Time the columns in turn, round after round, the reference in the first few only, and return the medians.

    In processor time of this thread: what else the machine does is in the clock's, and a millisecond is soon doubled.

    Raises RuntimeError when an operation answers False: what is timed must be the whole of the work.
    """
    nanoseconds: list[list[int]] = [[] for _ in columns]
    for index in range(rounds):
        for column, operation in enumerate(columns):
            if column < FAST_COLUMNS or index < slow_rounds:
                start = thread_time_ns()
                answer = operation()
                nanoseconds[column].append(thread_time_ns() - start)
                if answer is False:
                    raise RuntimeError(f"{name} refused a good signature")
    medians = [median(column) / 1000 for column in nanoseconds]
    py_ecc_us = medians[FAST_COLUMNS] if len(medians) > FAST_COLUMNS else None
    return Row(operation=name, raw_us=medians[0], pyblst_us=medians[1], py_ecc_us=py_ecc_us)


def render_table(rows: list[Row]) -> str:
    """Return the rows as text, times in milliseconds."""
    header = ("operation", "raw pyblst ms", "pyblst ms", "overhead", "py_ecc ms", "speed-up")
    lines = [header]
    for row in rows:
        reference = "-" if row.py_ecc_us is None else f"{row.py_ecc_us / 1000:.1f}"
        speedup = "-" if row.speedup_ratio is None else f"{row.speedup_ratio:.0f}x"
        times = (f"{row.raw_us / 1000:.3f}", f"{row.pyblst_us / 1000:.3f}", f"{row.overhead_ratio:.2f}x")
        lines.append((row.operation, *times, reference, speedup))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        )
        for line in lines
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bls", description="What BLS operations cost here.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no row that takes py_ecc over a second")
    parser.add_argument("--json", action="store_true", help="print the medians and ratios as JSON")
    options = parser.parse_args()
    rows = measure_rows(quick=options.quick)
    if options.json:
        ratios = [{"overhead_ratio": row.overhead_ratio, "speedup_ratio": row.speedup_ratio} for row in rows]
        print(json.dumps([asdict(row) | ratio for row, ratio in zip(rows, ratios, strict=True)], indent=2))
    else:
        print("BLS12-381, public keys known; medians of processor time, interleaved runs in one process")
        print(render_table(rows))


if __name__ == "__main__":
    main()

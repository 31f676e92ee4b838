"""An append-only file of JSON lines beside a long computation, so that it goes on where it was killed.

The first line says what the computation is; a file of another computation is refused, never mixed in. Every line is
canonical JSON. A half-written last line is dropped when the file is opened.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from scoring import canonical
from scoring.canonical import Json
from scoring.errors import InvalidInput

Row = dict[str, Json]


class Journal:
    """The rows of one computation, in the order in which they were written, and the way to add more."""

    def __init__(self, file: BinaryIO, rows: list[Row]) -> None:
        self._file = file
        self.rows = rows

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows and wait until they are on the disk."""
        for row in rows:
            self._file.write(canonical.encode(row) + b"\n")
            self.rows.append(row)
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_journal(path: Path, header: Row) -> Iterator[Journal]:
    """Open or create the journal of the computation that `header` describes.

    Raises InvalidInput when the file belongs to another computation or is damaged before its last line.
    """
    rows, size = _read_rows(path, header)
    with path.open("ab") as file:
        file.truncate(size)
        journal = Journal(file, rows)
        if not size:
            file.write(canonical.encode(header) + b"\n")
        yield journal


def read_journal(path: Path, header: Row) -> list[Row]:
    """Return the rows that a journal holds so far, none when there is no file: nothing is created or cut.

    Raises InvalidInput as `open_journal` does. Another process may be writing.
    """
    return _read_rows(path, header)[0]


def _read_rows(path: Path, header: Row) -> tuple[list[Row], int]:
    """Return the rows after the header and how many bytes are whole."""
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.splitlines()
    rows = [_decode_row(path, number, line) for number, line in enumerate(lines, start=1)]
    if rows and rows[0] != header:
        different = sorted(key for key in header.keys() | rows[0].keys() if header.get(key) != rows[0].get(key))
        raise InvalidInput(f"belongs to another run ({', '.join(different)} differ): delete or rename it", str(path))
    return rows[1:], len(whole)


def _decode_row(path: Path, number: int, line: bytes) -> Row:
    try:
        value = canonical.decode(line)
    except InvalidInput as error:
        raise InvalidInput(f"line {number} is damaged: {error}", str(path)) from None
    if not isinstance(value, dict):
        raise InvalidInput(f"line {number} is not an object", str(path))
    return value

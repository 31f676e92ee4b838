"""The journal of an audit: every exchange is on the disk before it is judged, so that nothing paid for is lost.

One JSON object a line: what the audit is (the header), what was discovered, then each request with its number and its
answer in the form of a transcript, at last why it ended. A half-written last line is dropped when the file is opened.
"""

import contextlib
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Self

from scoring.errors import InvalidInput, Unavailable
from validator.audit.asked import parse_asked
from validator.audit.facts import EndpointFacts
from validator.audit.needles import compute_needle_seed
from validator.audit.outcomes import Entry
from validator.audit.plan import ProbingPlan
from validator.audit.transcript import (
    MAX_LINE_BYTES,
    build_document,
    build_entry,
    encode_document,
    parse_document,
    parse_origin,
)

FORMAT = "quiver-audit-journal-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Which audit a journal belongs to."""

    endpoint: str
    model: str
    plan: ProbingPlan

    def to_json(self) -> dict[str, object]:
        """Return the first line's document."""
        return {"format": FORMAT, "endpoint": self.endpoint, "model": self.model, "plan": self.plan.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """Read the first line's document; raises InvalidInput."""
        endpoint, model = value.get("endpoint"), value.get("model")
        if value.get("format") != FORMAT or not isinstance(endpoint, str) or not isinstance(model, str):
            raise InvalidInput("does not start like a journal of `quiver audit`", "journal")
        return cls(endpoint=endpoint, model=model, plan=ProbingPlan.from_json(value.get("plan")))


@dataclass(slots=True, kw_only=True)
class Kept:
    """What a journal holds. `entries` by index, in any order; `size` is how many bytes are whole lines."""

    header: Header
    facts: EndpointFacts | None = None
    discovery_tokens: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)
    finished: str | None = None
    size: int = 0


def read_journal(path: Path) -> Kept | None:
    """Return what a journal holds, None when there is no such file or not even a header in it.

    Raises InvalidInput when a line before the last is damaged, Unavailable when the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    whole = data[: data.rfind(b"\n") + 1]
    kept: Kept | None = None
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            document = parse_document(line)
            if kept is None:
                kept = Kept(header=Header.from_json(document), size=len(whole))
            else:
                _take(kept, document)
        except InvalidInput as error:
            raise InvalidInput(f"{path}, line {number}: {error}", "journal") from None
    return kept


class Journal:
    """An open journal; every method returns when its line is on the disk. Raises Unavailable when it cannot be."""

    def __init__(self, file: BinaryIO, kept: Kept) -> None:
        self._file = file
        self.kept = kept

    def append_discovered(self, facts: EndpointFacts, tokens: int) -> None:
        """Keep what the endpoint offers."""
        self.kept.facts, self.kept.discovery_tokens = facts, tokens
        self._append({"discovered": facts.to_json(), "tokens": tokens})

    def append_entry(self, entry: Entry, served_model: str) -> None:
        """Keep a request and what became of it."""
        self.kept.entries[entry.origin.index] = entry
        self._append({"index": entry.origin.index, **build_document(entry, served_model)})

    def append_finished(self, why: str) -> None:
        """Note that the audit came to its end."""
        self.kept.finished = why
        self._append({"finished": why})

    def close(self) -> None:
        """Close the file; one in which nothing was kept is removed."""
        if self.kept.facts is None and not self.kept.entries:
            Path(self._file.name).unlink(missing_ok=True)
        # A line that could not be written was told then, and is still in the buffer.
        with contextlib.suppress(OSError):
            self._file.close()

    def _append(self, document: Mapping[str, object]) -> None:
        line = encode_document(document)
        if len(line) > MAX_LINE_BYTES:
            raise Unavailable(f"a line of {len(line)} bytes is too long for the journal")
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise Unavailable(f"cannot write the journal {self._file.name}: {error.strerror}") from error


def create_journal(path: Path, header: Header) -> Journal:
    """Start a journal; one of a finished audit is replaced, one of an unfinished audit is not (InvalidInput)."""
    file = _open(path)
    try:
        kept = read_journal(path)
        if kept is not None and kept.finished is None and kept.entries:
            raise InvalidInput(
                f"{path} holds an unfinished audit of {kept.header.endpoint} ({len(kept.entries)} requests): "
                "go on with --resume, or delete the file"
            )
        file.truncate(0)
    except BaseException:
        file.close()
        raise
    journal = Journal(file, Kept(header=header))
    journal._append(header.to_json())
    return journal


def resume_journal(path: Path) -> Journal:
    """Open a journal to go on; raises InvalidInput when there is none."""
    if not path.exists():
        raise InvalidInput(f"there is no journal {path}: nothing to resume", "--resume")
    file = _open(path)
    try:
        kept = read_journal(path)
        if kept is None:
            raise InvalidInput(f"{path} is empty: nothing to resume", "--resume")
        file.truncate(kept.size)
    except BaseException:
        file.close()
        raise
    kept.finished = None
    return Journal(file, kept)


def _open(path: Path) -> BinaryIO:
    """Open a file to append to, alone: two audits must not write one journal."""
    try:
        file = path.open("ab")
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Unavailable(f"another audit is writing {path}") from None
    return file


def _take(kept: Kept, document: dict[str, object]) -> None:
    if "discovered" in document:
        tokens = document.get("tokens")
        kept.facts = EndpointFacts.from_json(document["discovered"])
        kept.discovery_tokens = tokens if type(tokens) is int else 0
    elif "finished" in document:
        kept.finished = str(document["finished"])
    else:
        entry = _read_entry(kept.header.plan, document)
        kept.entries[entry.origin.index] = entry
        kept.finished = None


def _read_entry(plan: ProbingPlan, document: dict[str, object]) -> Entry:
    index = document.pop("index", None)
    if type(index) is not int or index < 0:
        raise InvalidInput("expected an integer from 0", "index")
    origin = parse_origin(document, index)
    # Our own file: what it says was drawn was drawn, as long as the seed is the plan's.
    first = index if origin.repeat_of is None else origin.repeat_of
    is_drawn = origin.probe_seed in (plan.compute_probe_seed(first), compute_needle_seed(plan, index))
    return build_entry(document, parse_asked(document.get("request")), replace(origin, is_drawn=is_drawn))

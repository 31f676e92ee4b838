"""What commands print, and how they read arguments and files: one place for limits and for writing results whole."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import click

from scoring.eip712 import parse_hex
from scoring.errors import InvalidInput, Unavailable

T = TypeVar("T")


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a file of at most `max_bytes`; raises InvalidInput for a wrong path too, or Unavailable."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise InvalidInput(f"{path} is over the limit of {max_bytes} bytes")
    return data


def decode_file(path: Path, max_bytes: int, decode: Callable[[bytes], T]) -> T:
    """Return what a file holds; raises what `read_file` raises, and InvalidInput that names the file."""
    data = read_file(path, max_bytes)
    try:
        return decode(data)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error


def check_writable(path: Path, field: str = "") -> None:
    """Raise InvalidInput where a result could not be written to once the work is done."""
    try:
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path} is not a file", field)
        if not path.parent.is_dir():
            raise InvalidInput(f"there is no folder {path.parent}", field)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", field) from error
    if not os.access(path.parent, os.W_OK):
        raise InvalidInput(f"nothing may be written to {path.parent}", field)


def write_file(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all; raises Unavailable."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error


def parse_digest(value: str, field: str) -> bytes:
    """Return the 32 bytes of an argument given as 0x and 64 hex digits of any case; raises InvalidInput."""
    digest = parse_hex(value.lower(), field)
    if len(digest) != 32:
        raise InvalidInput("expected 0x and 64 hex digits", field)
    return digest


def print_json(document: object) -> None:
    """Print a document for machines."""
    click.echo(json.dumps(document, indent=2, sort_keys=True, default=str))


def print_facts(facts: Mapping[str, object]) -> None:
    """Print name and value pairs for people, aligned."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")


def now_s() -> int:
    """Return unix seconds."""
    return int(time.time())

"""Fail when the documents lie: dead links, commands, options or make targets that do not exist, stale excerpts.

Checked in every tracked Markdown file: relative links; each `quiver ...` and `make ...` line of a shell block, against
the command line's own definition and the Makefile; blocks marked `<!-- copied from FILE -->`, against the file.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from validator.cli import quiver

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COPIED = re.compile(r"<!-- copied from (\S+) -->\n```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Check every document and print what is wrong; returns the exit code."""
    problems = [problem for path in find_documents() for problem in check_document(path)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"docs: {len(list(find_documents()))} files, {len(problems)} problems")
    return 1 if problems else 0


def find_documents() -> Iterator[Path]:
    """Yield the project's Markdown files."""
    yield from sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def check_document(path: Path) -> Iterator[str]:
    """Yield a sentence for each thing in a document that is not true."""
    text, name = path.read_text(), path.relative_to(ROOT)
    for target in LINK.findall(re.sub(BLOCK, "", text)):
        is_local = "://" not in target and not target.startswith(("#", "mailto:"))
        if is_local and not (path.parent / target.partition("#")[0]).exists():
            yield f"{name}: dead link {target}"
    for language, block in BLOCK.findall(text):
        if language in ("sh", "bash", "shell", "console"):
            for line in join_lines(block):
                yield from (f"{name}: {problem}" for problem in check_line(line))
    for source, block in COPIED.findall(text):
        if not block.strip() or not (ROOT / source).is_file() or block.strip() not in (ROOT / source).read_text():
            yield f"{name}: the block copied from {source} is empty or not in it"


def join_lines(block: str) -> list[str]:
    """Return the commands of a shell block, continued lines joined, prompts and comments cut."""
    joined = block.replace("\\\n", " ")
    return [line.removeprefix("$ ").partition(" #")[0].strip() for line in joined.splitlines()]


def check_line(line: str) -> Iterator[str]:
    """Yield what is wrong with a `quiver` or `make` command."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        yield f"not a shell command: {line!r} ({error})"
        return
    while words and ("=" in words[0] and not words[0].startswith("-")):
        words = words[1:]
    if words[:1] == ["make"]:
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        yield from (f"no make target {word}" for word in words[1:] if "=" not in word and word not in targets)
    if words[:1] and words[0].rpartition("/")[2] == "quiver":
        yield from check_quiver(words[1:])


def check_quiver(words: list[str]) -> Iterator[str]:
    """Yield what is wrong with the words of a `quiver` command."""
    command: click.Command = quiver
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.commands.get(words[0])
        if found is None:
            yield f"no command {words[0]!r} in {command.name}"
            return
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h", "--version"}
    for word in words:
        if word in ("|", "&", ">", "&&", ";"):
            return
        if word.startswith("-") and word.partition("=")[0] not in known:
            yield f"quiver {command.name} has no option {word.partition('=')[0]}"


if __name__ == "__main__":
    sys.exit(main())

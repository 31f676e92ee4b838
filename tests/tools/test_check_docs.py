"""Documents that lie are found: dead links, commands and options that do not exist, excerpts that are out of date."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = "demo: install\n\trun\n\ntest: install\n\nbench: install\n"


def load_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_docs_under_test", ROOT / "tools" / "check_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_docs = load_module()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a Makefile, a document to link to and an output to copy from."""
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "feed.md").write_text("# Feed\n")
    (tmp_path / "docs" / "demo.txt").write_text("first\nsecond\nthird\n")
    return tmp_path


def check(project: Path, text: str, name: str = "README.md") -> list[str]:
    path = project / name
    path.write_text(text)
    return list(check_docs.check_document(path))


def in_shell(*lines: str, language: str = "sh") -> str:
    return "\n".join([f"```{language}", *lines, "```", ""])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("links that lead somewhere", "[feed](docs/feed.md), [part](docs/feed.md#part), [here](#here)\n"),
        ("links that leave the project", "[eip](https://eips.ethereum.org/EIPS/eip-712) [mail](mailto:a@b.example)\n"),
        ("a link in a block of code", in_shell("echo '[x](nowhere.md)'")),
        ("make targets", in_shell("make demo", 'make demo PIP_ARGS="--index-url X"', "FAST=1 make bench")),
        ("commands with options", in_shell("quiver feed verify x --validator-set y --max-age 60 --json")),
        ("a continued command", in_shell("quiver feed get --url X \\", "  --provider Y --max-age 5")),
        ("options with =", in_shell("quiver devnet --epochs=3 --help")),
        ("a path to the command", in_shell(".venv/bin/quiver devnet --keep")),
        ("a prompt, a comment, a pipe", in_shell("$ quiver --version | tee x --not-ours  # see --nothing")),
        ("another program's options", in_shell("git log --oneline")),
        ("another language", in_shell("quiver nonsense", language="text")),
        ("a copied block", "<!-- copied from docs/demo.txt -->\n```text\nfirst\nsecond\n```\n"),
    ],
)
def test_finds_nothing_wrong_with(project: Path, name: str, text: str) -> None:
    assert check(project, text) == []


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a dead link", "see [feed](docs/fed.md)\n", "README.md: dead link docs/fed.md"),
        ("a dead link with a part", "[feed](docs/fed.md#part)\n", "README.md: dead link docs/fed.md#part"),
        ("an unknown target", in_shell("make dmeo"), "README.md: no make target dmeo"),
        ("one unknown target of two", in_shell("make demo tset"), "README.md: no make target tset"),
        ("an unknown command", in_shell("quiver adit x"), "README.md: no command 'adit' in quiver"),
        ("an unknown command of a group", in_shell("quiver feed put"), "README.md: no command 'put' in feed"),
        ("an unknown option", in_shell("quiver feed verify --age 5"), "README.md: quiver verify has no option --age"),
        (
            "an unknown option with =",
            in_shell("quiver devnet --epoch=5"),
            "README.md: quiver devnet has no option --epoch",
        ),
        (
            "an unknown option behind a line break",
            in_shell("quiver feed get --url X \\", "  --offers Y"),
            "README.md: quiver get has no option --offers",
        ),
        (
            "an unknown option of the command itself",
            in_shell("quiver --verbose"),
            "has no option --verbose",
        ),
        ("a quote that does not end", in_shell("quiver feed get --url 'x"), "README.md: not a shell command"),
        (
            "a stale excerpt",
            "<!-- copied from docs/demo.txt -->\n```text\nfirst\nthird\n```\n",
            "README.md: the block copied from docs/demo.txt is empty or not in it",
        ),
        (
            "an empty excerpt",
            "<!-- copied from docs/demo.txt -->\n```text\n```\n",
            "README.md: the block copied from docs/demo.txt is empty or not in it",
        ),
        (
            "an excerpt of nothing",
            "<!-- copied from docs/gone.txt -->\n```text\nx\n```\n",
            "README.md: the block copied from docs/gone.txt is empty or not in it",
        ),
    ],
)
def test_finds(project: Path, name: str, text: str, sentence: str) -> None:
    problems = check(project, text)
    assert len(problems) == 1
    assert sentence in problems[0]


def test_links_are_relative_to_their_document(project: Path) -> None:
    assert check(project, "[readme](../Makefile) [feed](feed.md)\n", "docs/other.md") == []
    assert check(project, "[feed](docs/feed.md)\n", "docs/other.md") == ["docs/other.md: dead link docs/feed.md"]


def test_every_document_is_looked_at_and_the_exit_code_tells(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_docs.main() == 0
    (project / "docs" / "adr").mkdir()
    (project / "docs" / "adr" / "0001.md").write_text("[x](y.md)\n")
    assert check_docs.main() == 1
    output = capsys.readouterr()
    assert output.err == "docs/adr/0001.md: dead link y.md\n"
    assert output.out.endswith("docs: 2 files, 1 problems\n")

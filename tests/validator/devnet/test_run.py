"""Before a devnet starts, it finds out whether its results have somewhere to go."""

from pathlib import Path

import pytest

from validator.cli import main


def test_refuses_a_folder_for_the_result_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devnet", "--json", str(tmp_path / "no" / "demo.json")]) == 2
    assert "--json: there is no folder" in capsys.readouterr().err


def test_refuses_a_directory_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "genesis.json").write_text("{}")
    assert main(["devnet", "--dir", str(tmp_path)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert main(["devnet", "--dir", str(tmp_path / "genesis.json")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["genesis.json"]


def test_refuses_a_directory_too_long_for_a_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devnet", "--dir", str(tmp_path / ("x" * 100))]) == 2
    assert "the engine's socket in it has a limit" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

"""What `import quiver_oracle` brings: the documented names, and nothing heavy."""

import subprocess
import sys

import quiver_oracle

HEAVY = ("torch", "aiohttp", "transformers", "sqlite3", "web3", "numpy", "py_ecc", "validator", "ledger", "models")


def test_every_public_name_is_there() -> None:
    assert quiver_oracle.__all__ == sorted(quiver_oracle.__all__)
    for name in quiver_oracle.__all__:
        assert getattr(quiver_oracle, name) is not None


def test_importing_it_loads_nothing_heavy() -> None:
    program = f"import quiver_oracle, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "[]\n"


def test_the_command_starts_without_the_validator_extra() -> None:
    program = "import sys, quiver_oracle.__main__; print('validator' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "False\n"

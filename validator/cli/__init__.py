"""The command line `quiver`. Commands import what they need when they run, so that the base install can verify feeds.

Exit codes: 0 good; 1 verification failed (audit: proven); 2 usage or malformed input; 3 not decided (somebody did not
answer; audit: suspect, unstable, uninformative); 4 doppelganger seen; 130 interrupted.
"""

import sys
from collections.abc import Sequence

import click

from scoring.errors import InvalidInput, MissingExtra, OracleError, Unavailable
from validator.cli.audit import audit
from validator.cli.challenge import challenge
from validator.cli.devnet import devnet
from validator.cli.evidence import evidence
from validator.cli.feed import feed
from validator.cli.model import model
from validator.cli.services import ledger, provider, validator

EXTRA_MODULES = {
    "accelerate",
    "aiohttp",
    "apscheduler",
    "numpy",
    "prometheus_client",
    "psutil",
    "py_ecc",
    "rich",
    "sqlite_utils",
    "structlog",
    "torch",
    "transformers",
    "sentence_transformers",
    "numba",
    "safetensors",
    "gguf",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quiver-oracle")
def quiver() -> None:
    """QUIVer: is this provider serving the model it is paid for, and how well?"""


for command in (audit, feed, evidence, challenge, devnet, validator, ledger, provider, model):
    quiver.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; errors become one sentence on standard error."""
    try:
        result = quiver.main(args=arguments, prog_name="quiver", standalone_mode=False)
    except click.exceptions.Abort:
        return _fail("interrupted", 130)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except click.ClickException as error:
        error.show()
        return 2
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in EXTRA_MODULES:
            raise
        return _fail(
            f"this command needs more than the base install: pip install 'quiver-oracle[validator]' ({name})", 2
        )
    except (InvalidInput, MissingExtra) as error:
        return _fail(str(error), 2)
    except Unavailable as error:
        return _fail(str(error), 3)
    except OracleError as error:
        return _fail(str(error), 1)
    return result if isinstance(result, int) else 0


def _fail(sentence: str, code: int) -> int:
    print(f"quiver: {sentence}", file=sys.stderr)
    return code

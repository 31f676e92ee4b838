"""Why the ledger refuses a transaction: a stable code for machines and a sentence for people."""

from scoring.errors import VerificationFailed


class TransactionRefused(VerificationFailed):
    """A well-formed transaction that breaks a rule of the ledger. `code` is stable; `field` names the place."""

    def __init__(self, code: str, message: str, field: str = "") -> None:
        self.code = code
        self.field = field
        super().__init__(f"{field}: {message}" if field else message)


def require(condition: bool, code: str, message: str, field: str = "") -> None:
    """Raise TransactionRefused unless the condition holds."""
    if not condition:
        raise TransactionRefused(code, message, field)

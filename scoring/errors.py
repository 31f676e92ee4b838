"""The one error root and its few branches. I/O errors are mapped to these once, in the adapter that does the I/O."""


class OracleError(Exception):
    """Something the oracle refuses or cannot do; its message says what is wrong and what to do."""


class InvalidInput(OracleError):
    """Bytes, a document or a value that breaks a rule of its format. `field` names the place."""

    def __init__(self, message: str, field: str = "") -> None:
        self.field = field
        super().__init__(f"{field}: {message}" if field else message)


class VerificationFailed(OracleError):
    """Well-formed input whose signature, proof, digest, age or arithmetic does not hold."""


class RefusedToSign(OracleError):
    """The sign guard holds an earlier, different signature for the same slot."""


class Unavailable(OracleError):
    """A peer, a provider, a ledger or an engine did not answer in time or at all."""


class MissingExtra(OracleError):
    """An optional part is not installed; the message names the extra."""

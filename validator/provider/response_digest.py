"""The response digest of `challenges.receipt`, computed while the text goes by: nothing of it has to be kept."""

from collections.abc import Mapping, Sequence

from Crypto.Hash import keccak

from scoring import canonical
from scoring.canonical import Json


class ResponseDigest:
    """Takes the content in pieces. Equal to `compute_response_digest` of their concatenation.

    In canonical JSON `content` is the first of the five keys and a string's escapes do not depend on what stands
    beside a character, so the document can be hashed from left to right.
    """

    def __init__(self) -> None:
        self._hash = keccak.new(digest_bits=256, data=b'{"content":"')

    def push(self, text: str) -> None:
        """Append a piece of content; raises InvalidInput on half a surrogate pair."""
        self._hash.update(canonical.encode(text)[1:-1])

    def finish(
        self, model: str, token_ids: Sequence[int] | None, finish_reason: str, usage: Mapping[str, int]
    ) -> bytes:
        """Return the 32-byte digest; raises InvalidInput."""
        counted: dict[str, Json] = {
            name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        }
        rest: dict[str, Json] = {
            "model": model,
            "token_ids": None if token_ids is None else list(token_ids),
            "finish_reason": finish_reason,
            "usage": counted,
        }
        self._hash.update(b'",' + canonical.encode(rest)[1:])
        return self._hash.digest()

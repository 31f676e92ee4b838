"""Text of a growing answer: whole characters as they become certain, stopped at the first stop string."""

from collections.abc import Sequence
from typing import Any

_BROKEN = "�"


class TextStream:
    """Turns token ids into text pieces whose concatenation is the answer's text.

    A piece is held back while it could still change: while it ends inside a UTF-8 sequence, or while its end could
    begin a stop string. Special tokens have no text.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._token_ids: list[int] = []
        self._window = 0
        self._certain = 0
        self._held = ""
        self.text = ""
        self.is_stopped = False

    def push(self, token_id: int) -> str:
        """Take the next token and return the text that is now certain ("" while nothing is)."""
        self._token_ids.append(token_id)
        before = self._decode(self._token_ids[self._window : self._certain])
        after = self._decode(self._token_ids[self._window :])
        if after.endswith(_BROKEN):
            return ""
        self._window, self._certain = self._certain, len(self._token_ids)
        return self._release(after[len(before) :], is_last=False)

    def finish(self) -> str:
        """Return the rest of the text, broken characters included, when no more tokens come."""
        before = self._decode(self._token_ids[self._window : self._certain])
        after = self._decode(self._token_ids[self._window :])
        self._certain = len(self._token_ids)
        return self._release(after[len(before) :], is_last=True)

    def _release(self, piece: str, *, is_last: bool) -> str:
        if self.is_stopped:
            return ""
        held = self._held + piece
        cuts = [at for at in (held.find(text) for text in self._stop) if at >= 0]
        if cuts:
            self.is_stopped, keep = True, min(cuts)
        else:
            keep = len(held) if is_last else len(held) - self._count_uncertain(held)
        self._held = held[keep:]
        self.text += held[:keep]
        return held[:keep]

    def _count_uncertain(self, held: str) -> int:
        """Return how many characters at the end could be the beginning of a stop string."""
        longest = 0
        for text in self._stop:
            for size in range(min(len(text) - 1, len(held)), longest, -1):
                if held.endswith(text[:size]):
                    longest = size
                    break
        return longest

    def _decode(self, token_ids: list[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

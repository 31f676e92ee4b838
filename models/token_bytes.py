"""What every token of a tokenizer is in bytes: the ways in which a text can have been cut into tokens.

Two families are read: byte-level BPE (GPT-2's alphabet) and SentencePiece with byte fallback. A tokenizer that we
cannot spell is refused: guessing would put an honest answer's tokens in doubt.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Self

from models.load import LoadedModel
from scoring.errors import InvalidInput

_SPACE = "▁"
_ANCHOR = "\n"


class TokenBytes:
    """The bytes of each token id. Build it once for a model: it reads the whole vocabulary.

    `values[id]` is empty for tokens without text: special ones, and ids that only pad the vocabulary. `special` are
    the special ones. `drops_first_space` says that decoding leaves out a space that an answer begins with.
    """

    def __init__(self, values: list[bytes], special: frozenset[int], drops_first_space: bool, tokenizer: Any) -> None:
        self.values = values
        self.special = special
        self.drops_first_space = drops_first_space
        self._tokenizer = tokenizer
        self._ids: dict[bytes, list[int]] = {}
        for token, value in enumerate(values):
            if value:
                self._ids.setdefault(value, []).append(token)
        self._longest = max(map(len, self._ids))

    @classmethod
    def build(cls, loaded: LoadedModel) -> Self:
        """Read a model's tokenizer; raises InvalidInput when it is of neither family."""
        tokenizer = loaded.tokenizer
        kinds = set(_list_kinds(json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder")))
        if "ByteLevel" not in kinds and "ByteFallback" not in kinds:
            raise InvalidInput(f"{loaded.manifest.name} has a tokenizer whose tokens we cannot spell", "tokenizer")
        added = tokenizer.added_tokens_decoder
        special = {*tokenizer.all_special_ids, *(token for token, entry in added.items() if entry.special)}
        values = [b""] * len(tokenizer)
        spell = _spell_byte_level if "ByteLevel" in kinds else _spell_sentencepiece
        for text, token in tokenizer.get_vocab().items():
            if token not in special:
                values[token] = text.encode() if token in added else spell(text)
        return cls(values, frozenset(special), "Strip" in kinds, tokenizer)

    def join(self, token_ids: Sequence[int]) -> bytes:
        """Return the bytes of some tokens, special ones left out."""
        return b"".join(self.values[token] for token in token_ids if token < len(self.values))

    def find_ids(self, value: bytes) -> Sequence[int]:
        """Return the tokens that are exactly these bytes, special ones left out."""
        return self._ids.get(value, [])

    def find_prefixes(self, rest: bytes) -> list[int]:
        """Return the tokens that a text could go on with, shortest first."""
        ends = range(1, min(len(rest), self._longest) + 1)
        return [token for end in ends for token in self._ids.get(rest[:end], [])]

    def encode(self, text: str) -> list[int]:
        """Return the canonical token ids of an answer's text; special tokens that it spells out stay text.

        The ids end before the first character that no tokens spell (some vocabularies lack bytes).
        """
        ids = self._encode(text)
        return ids if self.is_spelled(text, ids) else self._match(text.encode())

    def is_spelled(self, text: str, token_ids: Sequence[int]) -> bool:
        """Return whether an answer of these ids has this text, all of it."""
        found = self.join(token_ids)
        return found == text.encode() or (self.drops_first_space and found == b" " + text.encode())

    def encode_rest(self, rest: bytes) -> list[int]:
        """Return token ids for the rest of a text that begins anywhere, within a character too.

        As in `encode`, they may end before the rest does.
        """
        start = next((place for place in range(len(rest)) if not _is_inside(rest[place])), len(rest))
        head = self._match(rest[:start])
        if self.join(head) != rest[:start]:
            return head
        try:
            text = rest[start:].decode()
        except UnicodeDecodeError:
            return self._match(rest)
        ids = self._encode(text)
        if self.join(ids) == rest[start:]:
            return head + ids
        return head + self._encode_behind_anchor(text)

    def _encode_behind_anchor(self, text: str) -> list[int]:
        """Encode a text as it would be in the middle of another: some tokenizers put a space in front otherwise."""
        ids = self._encode(_ANCHOR + text)
        for count in range(1, min(4, len(ids)) + 1):
            if self.join(ids[:count]).endswith(_ANCHOR.encode()) and self.join(ids[count:]) == text.encode():
                return ids[count:]
        return self._match(text.encode())

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def _match(self, rest: bytes) -> list[int]:
        """Cut bytes into the longest tokens, from the left, as far as tokens spell them."""
        ids: list[int] = []
        while rest:
            fitting = self.find_prefixes(rest)
            if not fitting:
                break
            ids.append(fitting[-1])
            rest = rest[len(self.values[fitting[-1]]) :]
        return ids


def _is_inside(byte: int) -> bool:
    """Return whether a byte continues a UTF-8 character."""
    return byte & 0xC0 == 0x80


def _list_kinds(decoder: Any) -> Iterator[str]:
    if isinstance(decoder, dict):
        yield decoder["type"]
        for part in decoder.get("decoders", []):
            yield from _list_kinds(part)


def _spell_byte_level(text: str) -> bytes:
    known = [_BYTES.get(letter) for letter in text]
    return text.encode() if None in known else bytes(value for value in known if value is not None)


def _spell_sentencepiece(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes.fromhex(text[3:5])
    return text.replace(_SPACE, " ").encode()


def _build_alphabet() -> dict[str, int]:
    """Return GPT-2's letters for bytes: printable ones stand for themselves, the others for 256 and up in order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES = _build_alphabet()

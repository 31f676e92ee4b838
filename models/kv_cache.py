"""Keys and values of a running batch: rows aligned at their last token, joined and dropped between steps.

Column `width - 1` holds every row's newest token; a row of n tokens fills the last n columns, and what lies left of
them is masked by the caller. The transformers cache appends by copying everything (a third of a decoding step
at batch 8); these buffers grow by whole pages instead.
"""

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

PAGE_COLUMNS = 64


class PagedLayer(DynamicLayer):
    """One decoder layer's keys and values, [rows, heads, width, size], as views into larger buffers."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Append the new columns of every row and return all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._key_buffer, self._value_buffer, self._width = key_states, value_states, key_states.shape[-2]
        else:
            self._append(key_states, value_states)
        self.keys, self.values = self._key_buffer[:, :, : self._width], self._value_buffer[:, :, : self._width]
        return self.keys, self.values

    def hold(self, keys: Any, values: Any, width: int) -> None:
        """Replace what the layer holds by buffers of any number of rows whose first `width` columns are filled."""
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._key_buffer, self._value_buffer, self._width = keys, values, width
        self.keys, self.values = keys[:, :, :width], values[:, :, :width]

    def keep(self, rows: Any, width: int) -> None:
        """Drop all other rows, and the columns left of the last `width`; the free columns at the end stay."""
        start = self._width - width
        self.hold(self._key_buffer[:, :, start:][rows], self._value_buffer[:, :, start:][rows], width)

    def _append(self, key_states: Any, value_states: Any) -> None:
        end = self._width + key_states.shape[-2]
        if end > self._key_buffer.shape[-2]:
            self._key_buffer = _widen(self.keys, end + PAGE_COLUMNS)
            self._value_buffer = _widen(self.values, end + PAGE_COLUMNS)
        self._key_buffer[:, :, self._width : end] = key_states
        self._value_buffer[:, :, self._width : end] = value_states
        self._width = end


def build_cache() -> Cache:
    """Return an empty cache that any transformers decoder can be called with."""
    return Cache(layer_class_to_replicate=PagedLayer)


def join_rows(running: Cache | None, fresh: Cache, fresh_lengths: list[int], spare: int = 0) -> Cache:
    """Return a cache with the running rows followed by freshly prefilled ones.

    `fresh` is padded on the right: row r holds its tokens in its first `fresh_lengths[r]` columns. At least `spare`
    columns of every fresh row are left empty.
    """
    width = max(0 if running is None else running.get_seq_length(), max(fresh_lengths) + spare)
    result = build_cache()
    layers: list[Any] = list(fresh.layers)
    held: list[Any] = list(running.layers) if running is not None else [None] * len(layers)
    for old, layer in zip(held, layers, strict=True):
        joined = PagedLayer()
        joined.hold(
            _join(old.keys if old is not None else None, layer.keys, fresh_lengths, width),
            _join(old.values if old is not None else None, layer.values, fresh_lengths, width),
            width,
        )
        result.layers.append(joined)
    return result


def repeat_row(cache: Cache, count: int) -> Cache:
    """Return a cache of `count` rows that all hold what the only row of `cache` does."""
    result = build_cache()
    layers: list[Any] = list(cache.layers)
    for layer in layers:
        repeated = PagedLayer()
        keys, values = layer.keys.expand(count, -1, -1, -1), layer.values.expand(count, -1, -1, -1)
        repeated.hold(keys, values, keys.shape[-2])
        result.layers.append(repeated)
    return result


def keep_rows(cache: Cache, rows: list[int], width: int) -> None:
    """Drop all other rows, and the columns left of the last `width`, in place."""
    layers: list[Any] = list(cache.layers)
    places = torch.tensor(rows)
    for layer in layers:
        layer.keep(places.to(layer.device), width)


def _widen(tensor: Any, columns: int) -> Any:
    rows, heads, width, size = tensor.shape
    result = torch.zeros(rows, heads, columns, size, dtype=tensor.dtype, device=tensor.device)
    result[:, :, :width] = tensor
    return result


def _join(running: Any, fresh: Any, lengths: list[int], width: int) -> Any:
    held = running.shape[0] if running is not None else 0
    old_width = running.shape[2] if running is not None else 0
    _, heads, _, size = fresh.shape
    # Zeros and not garbage: a masked column still meets the values in a product, and 0 x NaN is NaN.
    shape = (held + len(lengths), heads, width + PAGE_COLUMNS, size)
    result = torch.zeros(shape, dtype=fresh.dtype, device=fresh.device)
    if running is not None:
        result[:held, :, width - old_width : width] = running
    for row, length in enumerate(lengths):
        result[held + row, :, width - length : width] = fresh[row, :, :length]
    return result

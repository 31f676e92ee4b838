"""Whether our way of running a model gives that model's own logits: checked once when an unknown one is loaded.

Two things are taken apart here that transformers does in one: the projection to the vocabulary, and the keys and
values of rows of different length. A family that does either differently (a state-space model, an unknown scaling of
logits) would silently look like a cheat, so it is refused by name.
"""

from typing import Any

import torch

from models.forward import compute_hidden, project_logits
from models.kv_cache import build_cache, join_rows
from models.load import LoadedModel
from scoring.errors import InvalidInput

_LENGTHS = (3, 6)
_TOLERANCE = 0.1


@torch.inference_mode()
def verify_supported(loaded: LoadedModel) -> None:
    """Raise InvalidInput unless a joined decoding step gives the logits of plain forward passes.

    Compared by the mean difference in units of the logits' own spread, which rounding in bf16 keeps below 0.02.
    """
    rows = [[(7 * place + row) % loaded.manifest.vocabulary_size for place in range(_LENGTHS[row])] for row in (0, 1)]
    expected = [loaded.model(input_ids=_build_ids(loaded, [row])).logits[0, -1].float() for row in rows]
    try:
        found = _decode_last(loaded, rows)
    except (AttributeError, TypeError, IndexError, RuntimeError) as error:
        raise InvalidInput(
            f"{loaded.manifest.name} keeps its context in a way that we cannot run: {error}", "model"
        ) from None
    for own, ours in zip(expected, found, strict=True):
        if float((own - ours).abs().mean()) > _TOLERANCE * float(own.std()):
            raise InvalidInput(f"{loaded.manifest.name} is of a family that we cannot run faithfully yet", "model")


def _decode_last(loaded: LoadedModel, rows: list[list[int]]) -> Any:
    """Return logits of each row's last token, after prefilling the others and joining both rows."""
    width = max(_LENGTHS) - 1
    starts = [row[:-1] for row in rows]
    fresh = build_cache()
    compute_hidden(loaded, _build_ids(loaded, [start + [0] * (width - len(start)) for start in starts]), cache=fresh)
    lengths = torch.tensor([len(start) for start in starts])
    cache = join_rows(None, fresh, lengths.tolist())
    mask = (torch.arange(width + 1) >= (width - lengths)[:, None]).long().to(loaded.device)
    positions = lengths[:, None].to(loaded.device)
    last = _build_ids(loaded, [[row[-1]] for row in rows])
    return project_logits(loaded, compute_hidden(loaded, last, mask=mask, positions=positions, cache=cache)[:, -1])


def _build_ids(loaded: LoadedModel, rows: list[list[int]]) -> Any:
    return torch.tensor(rows, device=loaded.device)

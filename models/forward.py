"""One forward pass split in two: hidden states first, then logits for chosen positions only.

The projection to the vocabulary is the widest tensor of a language model; callers pick the rows they need and keep
the chunk small. The known scalings that some families apply after it are applied here too.
"""

from typing import Any

import torch
from transformers.cache_utils import Cache

from models.load import LoadedModel


def compute_hidden(
    loaded: LoadedModel, input_ids: Any, *, mask: Any = None, positions: Any = None, cache: Cache | None = None
) -> Any:
    """Return the last hidden states, [rows, columns, size], for token ids [rows, columns].

    Without `mask` attention is purely causal, so rows padded on the right need none. With `cache` the columns are
    appended to it.
    """
    decoder = loaded.model.get_decoder() if hasattr(loaded.model, "get_decoder") else loaded.model.base_model
    options = {} if positions is None else {"position_ids": positions}
    output = decoder(
        input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None, **options
    )
    return output.last_hidden_state


def project_logits(loaded: LoadedModel, hidden: Any) -> Any:
    """Return float32 logits [..., vocabulary] of hidden states [..., size]."""
    config = loaded.model.config
    logits = loaded.model.get_output_embeddings()(hidden)
    if getattr(config, "logits_scaling", None):
        logits = logits / config.logits_scaling
    if getattr(config, "logit_scale", None):
        logits = logits * config.logit_scale
    softcap = getattr(config, "final_logit_softcapping", None)
    if softcap:
        logits = torch.tanh(logits / softcap) * softcap
    return logits.float()

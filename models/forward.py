"""One forward pass split in two: hidden states first, then logits for chosen positions only.

The projection to the vocabulary is the widest tensor of a language model; callers pick the rows they need and keep
the chunk small. The known scalings that some families apply after it are applied here too.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache

from models.load import LoadedModel
from models.packing import get_wide_weight, multiply_bf16


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
    """Return float32 logits [..., vocabulary] of hidden states [..., size], rounded as the model's dtype rounds."""
    return _scale(loaded, loaded.model.get_output_embeddings()(hidden))


def project_unrounded(loaded: LoadedModel, hidden: Any) -> Any:
    """Return float32 logits [..., vocabulary] that only the hidden states' dtype has rounded.

    A logit between 16 and 32 is rounded to an eighth in bf16. A provider's answer holds that noise once; a verifier
    that leaves its own out sees a fifth less of honest noise.
    """
    return _project_unrounded(loaded, hidden, torch.nn.functional.linear)


def project_alternative(loaded: LoadedModel, hidden: Any) -> Any:
    """Return what `project_unrounded` does for weights that are an alternative, in half the time.

    Evidence is valid whatever an alternative says. All of it rests on the reference, which keeps to plain fp32.
    """
    return _project_unrounded(loaded, hidden, multiply_bf16)


def _project_unrounded(loaded: LoadedModel, hidden: Any, multiply: Callable[[Any, Any, Any], Any]) -> Any:
    head = loaded.model.get_output_embeddings()
    if head.weight.dtype == torch.float32 or hidden.device.type != "cpu":
        return project_logits(loaded, hidden)
    if head.weight.dtype != torch.bfloat16:
        multiply = torch.nn.functional.linear
    bias = None if head.bias is None else head.bias.float()
    return _scale(loaded, multiply(hidden.float(), get_wide_weight(head), bias))


def _scale(loaded: LoadedModel, logits: Any) -> Any:
    config = loaded.model.config
    if getattr(config, "logits_scaling", None):
        logits = logits / config.logits_scaling
    if getattr(config, "logit_scale", None):
        logits = logits * config.logit_scale
    softcap = getattr(config, "final_logit_softcapping", None)
    if softcap:
        logits = torch.tanh(logits / softcap) * softcap
    return logits.float()

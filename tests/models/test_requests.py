"""Requests refuse what a model cannot be asked, with the field's name."""

import math

import pytest

from models.requests import ChatMessage, GenerationRequest, ReferenceRequest, TokenStatistics
from scoring.errors import InvalidInput

GENERATION = {"prompt_ids": (1, 2), "max_tokens": 4}
REFERENCE = {"prompt_ids": (1, 2), "output_ids": (3,)}
COLUMNS = {
    "logprob": (-1.0,),
    "raw_logprob": (-1.0,),
    "rank": (0,),
    "entropy": (1.0,),
    "pit_low": (0.0,),
    "pit_high": (0.5,),
    "grid_logprob": ((-1.0,) * 21,),
    "margin": None,
    "gap": None,
}

REFUSED_GENERATIONS = [
    ("empty prompt", {"prompt_ids": ()}, "prompt_ids"),
    ("prompt as a list", {"prompt_ids": [1]}, "prompt_ids"),
    ("negative token", {"prompt_ids": (-1,)}, "prompt_ids"),
    ("token as a float", {"prompt_ids": (1.0,)}, "prompt_ids"),
    ("token as a boolean", {"prompt_ids": (True,)}, "prompt_ids"),
    ("no tokens wanted", {"max_tokens": 0}, "max_tokens"),
    ("too many tokens wanted", {"max_tokens": 2**21}, "max_tokens"),
    ("negative temperature", {"temperature": -0.1}, "temperature"),
    ("temperature over 2", {"temperature": 2.1}, "temperature"),
    ("temperature that is no number", {"temperature": math.nan}, "temperature"),
    ("temperature as a string", {"temperature": "1"}, "temperature"),
    ("top_p of 0", {"top_p": 0.0}, "top_p"),
    ("top_p over 1", {"top_p": 1.01}, "top_p"),
    ("negative top_k", {"top_k": -1}, "top_k"),
    ("seed of 2**53", {"seed": 2**53}, "seed"),
    ("negative seed", {"seed": -1}, "seed"),
    ("empty stop string", {"stop": ("",)}, "stop"),
    ("17 stop strings", {"stop": ("x",) * 17}, "stop"),
    ("21 top log-probabilities", {"logprobs": 21}, "logprobs"),
    ("a sampler that draws nothing", {"sampler": "none"}, "sampler"),
    ("unknown sampler", {"sampler": "vllm-gumbel"}, "sampler"),
]


@pytest.mark.parametrize(("name", "change", "field"), REFUSED_GENERATIONS, ids=lambda value: str(value)[:40])
def test_a_generation_request_refuses(name, change, field):
    GenerationRequest(**GENERATION)
    with pytest.raises(InvalidInput) as refusal:
        GenerationRequest(**{**GENERATION, **change})
    assert refusal.value.field == field


REFUSED_REFERENCES = [
    ("empty prompt", {"prompt_ids": ()}, "prompt_ids"),
    ("negative output token", {"output_ids": (-1,)}, "output_ids"),
    ("unknown sampler", {"sampler": "vllm-gumbel"}, "sampler"),
    ("gumbel-philox-v1 without seed", {"sampler": "gumbel-philox-v1"}, "seed"),
    ("vllm-exponential without seed", {"sampler": "vllm-exponential"}, "seed"),
    ("inverse-cdf without seed", {"sampler": "inverse-cdf"}, "seed"),
    ("temperature over 2", {"temperature": 3.0}, "temperature"),
]


@pytest.mark.parametrize(("name", "change", "field"), REFUSED_REFERENCES, ids=lambda value: str(value)[:40])
def test_a_reference_request_refuses(name, change, field):
    ReferenceRequest(**REFERENCE)
    with pytest.raises(InvalidInput) as refusal:
        ReferenceRequest(**{**REFERENCE, **change})
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a short column", {"rank": ()}),
        ("a short margin", {"margin": ()}),
        ("a short grid row", {"grid_logprob": ((-1.0,),)}),
    ],
)
def test_statistics_refuse_columns_that_do_not_fit(name, change):
    TokenStatistics(**COLUMNS)
    with pytest.raises(InvalidInput):
        TokenStatistics(**{**COLUMNS, **change})


def test_a_role_is_short_and_not_empty():
    for role in ("", "r" * 33):
        with pytest.raises(InvalidInput):
            ChatMessage(role=role, content="x")

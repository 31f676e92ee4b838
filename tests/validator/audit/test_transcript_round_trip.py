"""Transcripts of any entry are read as what was written, and any bytes are read or refused."""

from hypothesis import given
from hypothesis import strategies as st

from models.activation_format import ActivationProof
from models.requests import ChatMessage
from scoring.errors import InvalidInput
from validator.audit.asked import Asked
from validator.audit.outcomes import Entry, Origin
from validator.audit.records import Exchange, Missing, ReturnedLogprob, ReturnedToken, Timing
from validator.audit.transcript import build_document, encode_document, parse_document, parse_entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TOKENS = st.builds(
    ReturnedToken,
    text=TEXT,
    logprob=st.floats(-1e4, 0),
    data=st.none() | st.binary(max_size=4),
    token_id=st.none() | st.integers(0, 2**31 - 1),
)
LOGPROB_ROWS = st.builds(ReturnedLogprob, chosen=TOKENS, top=st.lists(TOKENS, max_size=3).map(tuple))
TIMES = st.none() | st.floats(0, 1e6)
TIMINGS = st.builds(Timing, first_token_ms=TIMES, total_ms=TIMES)
MESSAGES = st.builds(ChatMessage, role=st.sampled_from(["system", "user", "assistant"]), content=TEXT)
ASKED = st.builds(
    Asked,
    messages=st.lists(MESSAGES, min_size=1).map(tuple),
    max_tokens=st.integers(8, 4096),
    temperature=st.floats(0, 2),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 100),
    seed=st.integers(0, 2**53 - 1),
    stop=st.lists(TEXT.filter(bool), max_size=2).map(tuple),
    is_streamed=st.booleans(),
    plain=st.sampled_from([(), ("min_p",), ("min_p", "repetition_penalty")]),
)


@st.composite
def missing_entries(draw) -> Entry:
    """A request that was asked and has no answer."""
    missing = Missing(
        index=0, reason="timeout", detail=draw(TEXT), is_provider_fault=draw(st.booleans()), timing=draw(TIMINGS)
    )
    return Entry(origin=draw_origin(draw, "none"), asked=draw(ASKED), outcome=missing)


@st.composite
def answered_entries(draw) -> Entry:
    """A request and its answer, with everything that an endpoint may return or leave out."""
    asked, origin = draw(ASKED), draw_origin(draw, draw(st.sampled_from(["none", "gumbel-philox-v1"])))
    exchange = Exchange(
        index=0,
        messages=asked.messages,
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        seed=asked.seed,
        sampler=origin.sampler,
        is_drawn=False,
        stratum=None,
        content=draw(TEXT),
        token_ids=draw(st.lists(st.integers(0, 2**31 - 1), max_size=5).map(tuple)),
        logprobs=draw(st.none() | st.lists(LOGPROB_ROWS, min_size=1, max_size=3).map(tuple)),
        finish_reason=draw(st.sampled_from(["stop", "length"])),
        prompt_tokens=draw(st.none() | st.integers(0, 999)),
        completion_tokens=draw(st.none() | st.integers(0, 999)),
        stop=asked.stop,
        timing=draw(TIMINGS),
        is_streamed=asked.is_streamed,
        answered_model=draw(st.none() | TEXT),
        receipt=draw(st.none() | st.just(b'{"receipt":{"counter":1}}')),
        proofs=draw(st.none() | st.just((ActivationProof(modulus=65497, coefficients=(1, 2)),))),
        probe_seed=origin.probe_seed,
    )
    return Entry(origin=origin, asked=asked, outcome=exchange)


def draw_origin(draw, sampler: str) -> Origin:
    seed = draw(st.none() | st.binary(min_size=32, max_size=32))
    return Origin(index=0, sampler=sampler, probe_seed=seed, stratum=draw(st.none() | st.just("prose")))


@given(missing_entries() | answered_entries())
def test_what_is_written_is_what_is_read(entry: Entry) -> None:
    again = parse_entry(parse_document(encode_document(build_document(entry, "m"))), [])
    # "token_id:9" is how some servers write an id; as a text of its own it cannot come back.
    assert again == entry


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_no_bytes_do_anything_but_be_read_or_refused(data: bytes) -> None:
    try:
        entry = parse_entry(parse_document(data), [])
    except InvalidInput as error:
        assert str(error)
    else:
        assert entry.origin.index == 0

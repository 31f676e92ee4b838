"""Written probes: a seed gives one text whatever the batch, a stranger can check it, the clean-up rules hold."""

from dataclasses import dataclass, replace

import pytest

from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256
from scoring.probe_habits import BARE_MESSAGES
from scoring.probe_outlines import STRATA_V2, TurnOutline, build_outline

pytestmark = pytest.mark.slow
COUNT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    strata: tuple[str, ...] = STRATA_V2
    max_tokens: int = 64
    temperature_min_ppm: int = 700_000
    temperature_max_ppm: int = 1_100_000
    top_p_min_ppm: int = 900_000
    top_p_max_ppm: int = 1_000_000
    max_delay_ms: int = 60_000


def draw(count, shorten=True):
    """Return outlines; shortened ones fit the tiny model's context of 256 bytes."""
    outlines = [build_outline(keccak256(b"written %d" % index), Limits()) for index in range(count)]
    if not shorten:
        return outlines
    return [
        replace(
            outline, turns=tuple(replace(turn, examples=(), token_limit=min(turn.token_limit, 12)) for turn in turns)
        )
        for outline in outlines
        for turns in [outline.turns]
    ]


@pytest.fixture(scope="module")
def written(tiny):
    from models.probe_writer import write_probes

    return write_probes(tiny, draw(COUNT))


@pytest.fixture(scope="module")
def conversation(written):
    """A probe in which the user speaks, is answered, and speaks again; written at the first attempt or later."""
    return next(probe for probe in written if [turn.role for turn in probe.turns] == ["user", "assistant", "user"])


@pytest.mark.parametrize("max_rows", [1, 5])
def test_a_probe_does_not_depend_on_the_batch_it_was_written_in(tiny, written, max_rows):
    from models.probe_writer import write_probes

    assert write_probes(tiny, draw(COUNT)[:10], max_rows=max_rows) == written[:10]


def test_no_message_is_empty(written):
    assert all(message.content.strip() for probe in written for message in probe.messages)


def test_a_turn_without_tokens_is_one_of_the_bare_messages(written):
    bare = [turn for probe in written for turn in probe.turns if not turn.attempts]
    assert bare
    assert {turn.text for turn in bare} <= {text for _, text in BARE_MESSAGES}


def test_every_written_probe_passes_the_check_of_a_stranger(tiny, written):
    from models.probe_writer import verify_written_probe

    for probe in written:
        verify_written_probe(tiny, probe)


def change_turn(probe, place, **changes):
    turns = list(probe.turns)
    turns[place] = replace(turns[place], **changes)
    return replace(probe, turns=tuple(turns))


def change_seeds(probe):
    turns = tuple(
        replace(turn, writer_seeds=tuple(seed ^ 1 for seed in turn.writer_seeds)) for turn in probe.outline.turns
    )
    return replace(probe, outline=replace(probe.outline, turns=turns))


LIES = [
    pytest.param(lambda p: change_turn(p, 0, text=p.turns[0].text + " now"), "its tokens say", id="another text"),
    pytest.param(
        lambda p: change_turn(p, -1, attempts=p.turns[0].attempts),
        "its tokens say|does not end|attempts",
        id="the tokens of another turn",
    ),
    pytest.param(lambda p: replace(p, turns=p.turns[:-1]), "not those of the outline", id="a turn left out"),
    pytest.param(lambda p: change_turn(p, 0, attempts=()), "has 0 attempts", id="no attempt"),
    pytest.param(
        lambda p: change_turn(p, 0, attempts=p.turns[0].attempts * 5), "attempts", id="more attempts than writer seeds"
    ),
    pytest.param(
        lambda p: change_turn(p, 0, attempts=(p.turns[0].attempts[-1][:-1],)), "does not end", id="tokens cut off"
    ),
    pytest.param(
        lambda p: change_turn(p, 0, attempts=(p.turns[0].attempts[-1] + (65,),)), "does not end", id="a token too many"
    ),
    pytest.param(change_seeds, "below the seeded winner", id="other writer seeds"),
]


@pytest.mark.parametrize(("lie", "reason"), LIES)
def test_refuses_a_probe_that_does_not_follow_from_its_outline(tiny, conversation, lie, reason):
    from models.probe_writer import verify_written_probe

    with pytest.raises(VerificationFailed, match=reason):
        verify_written_probe(tiny, lie(conversation))


def forge(tiny, probe, attempts):
    """Return a probe whose first message is what some attempts of our own say, by the rules."""
    from models.probe_text import clean_text

    text = clean_text(tiny, probe.outline.turns[0], attempts)
    return change_turn(probe, 0, attempts=attempts, text=text)


def test_refuses_a_probe_written_again_although_its_first_attempt_was_good(tiny, conversation):
    from models.probe_writer import verify_written_probe

    good = (*(number for byte in b" nice joke" for number in encode_byte(tiny, byte)), END)
    with pytest.raises(VerificationFailed, match="was good"):
        verify_written_probe(tiny, forge(tiny, conversation, (good, good)))


def test_refuses_a_message_that_the_writer_seed_does_not_draw(tiny, conversation):
    from models.probe_writer import verify_written_probe

    chosen = (*(number for byte in b" nice joke" for number in encode_byte(tiny, byte)), END)
    with pytest.raises(VerificationFailed, match="below the seeded winner"):
        verify_written_probe(tiny, forge(tiny, conversation, (chosen,)))


END = 256


def build_turn(**changes):
    plain = {
        "role": "user",
        "examples": (),
        "opening": "Tell me",
        "token_limit": 60,
        "is_one_line": True,
        "dropped_marks": "",
        "is_lower_case": False,
        "writer_seeds": (1, 2, 3),
    }
    return TurnOutline(**plain | changes)


CLEANED = [
    pytest.param({}, b" a joke.", True, "Tell me a joke.", id="as it is written"),
    pytest.param({"dropped_marks": "."}, b" a joke.", True, "Tell me a joke", id="the final stop left out"),
    pytest.param({"dropped_marks": "."}, b" a joke?", True, "Tell me a joke?", id="another mark stays"),
    pytest.param({"is_lower_case": True}, b" a joke", True, "tell me a joke", id="no capital"),
    pytest.param({}, b" a joke\nand more", False, "Tell me a joke", id="one line ends at the line's end"),
    pytest.param({"is_one_line": False}, b" a joke\nand more", True, "Tell me a joke\nand more", id="two lines"),
    pytest.param({}, b" a joke. Then ano", False, "Tell me a joke.", id="cut at the last whole sentence"),
    pytest.param({}, b" a joke and ano", False, None, id="cut without a whole sentence"),
    pytest.param({}, b"", True, None, id="nothing after the opening"),
    pytest.param({"examples": ("Tell me a joke",)}, b" a joke", True, None, id="an example copied"),
    pytest.param({}, b" " + b"x" * 31, True, None, id="a word that is too long"),
    pytest.param({}, b" 1234567890 1234567890", True, None, id="more digits than letters"),
    pytest.param({}, b" a \xff joke", True, None, id="bytes that are no text"),
    pytest.param(
        {"writer_seeds": (1,)}, b" a joke and ano", False, "Tell me a joke and", id="the last attempt is taken"
    ),
    pytest.param({"writer_seeds": (1,), "opening": ""}, b"", True, "hi", id="the last attempt, empty"),
]


@pytest.mark.parametrize(("changes", "tokens", "is_ended", "text"), CLEANED)
def test_the_rules_clean_what_was_written(tiny, changes, tokens, is_ended, text):
    from models.load import encode_text
    from models.probe_text import clean_text

    # A byte tokenizer: the id of a byte that is no text is found by its letter in the vocabulary.
    ids = [number for byte in tokens for number in encode_byte(tiny, byte)] + [END] * is_ended
    assert encode_text(tiny, "a") == encode_byte(tiny, ord("a"))
    assert clean_text(tiny, build_turn(**changes), [ids]) == text


def encode_byte(tiny, byte):
    from tokenizers import pre_tokenizers

    if byte < 128:
        return tiny.tokenizer.encode(chr(byte), add_special_tokens=False)
    return [sorted(pre_tokenizers.ByteLevel.alphabet()).index(chr(byte))]


def test_refuses_a_model_without_chat_template(tiny, monkeypatch):
    from models.probe_writer import write_probes

    monkeypatch.setattr(tiny.tokenizer, "chat_template", None)
    with pytest.raises(InvalidInput, match="no chat template"):
        write_probes(tiny, draw(1))


def test_the_bundled_model_writes_what_a_stranger_can_check(bundled_fp32):
    from models.probe_writer import verify_written_probe, write_probes

    probes = write_probes(bundled_fp32, draw(4, shorten=False))
    assert write_probes(bundled_fp32, draw(4, shorten=False)[:2], max_rows=1) == probes[:2]
    for probe in probes:
        verify_written_probe(bundled_fp32, probe)

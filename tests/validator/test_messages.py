"""Bodies of peer messages: what is sent comes back the same, and whatever is off is refused with its field."""

from typing import Any

import pytest
from simulation.story import Story, play_story

from scoring import canonical
from scoring.errors import InvalidInput
from scoring.records import SlashingEvidence
from validator.messages import Certified, EvidenceVote, Proposal, RevealMessage

EVIDENCE = SlashingEvidence(
    provider=b"\x01" * 20,
    offer_digest=b"\x02" * 32,
    rule="false-capability",
    case_index=1,
    first_epoch=0,
    last_epoch=2,
    checkpoint=bytes(32),
    plan_digest=bytes(32),
    bundle_digest=bytes(32),
    threshold=600,
    slash_bps=1500,
)


@pytest.fixture(scope="module")
def story() -> Story:
    return play_story()


@pytest.fixture(scope="module")
def bodies(story: Story) -> dict[str, dict[str, Any]]:
    """One good body of each kind."""
    outcome = story.last()
    return {
        "reveal": outcome.reveals[0].to_json(),
        "proposal": outcome.certified.proposal.to_json(),
        "certified": outcome.certified.to_json(),
        "vote": EvidenceVote(evidence=EVIDENCE, signature=b"\x05" * 96).to_json(),
    }


PARSERS = {
    "reveal": RevealMessage.from_json,
    "proposal": Proposal.from_json,
    "certified": Certified.from_json,
    "vote": EvidenceVote.from_json,
}


@pytest.mark.parametrize("kind", PARSERS)
def test_what_is_sent_comes_back_the_same(bodies: dict[str, dict[str, Any]], kind: str) -> None:
    body = canonical.decode(canonical.encode(bodies[kind]))
    assert PARSERS[kind](body).to_json() == bodies[kind]


@pytest.mark.parametrize("kind", PARSERS)
@pytest.mark.parametrize("value", [None, [], "x", 5, {}])
def test_a_body_that_is_no_such_object_is_refused(kind: str, value: object) -> None:
    with pytest.raises(InvalidInput):
        PARSERS[kind](value)


@pytest.mark.parametrize("kind", PARSERS)
def test_a_key_too_many_or_too_few_is_refused_by_name(bodies: dict[str, dict[str, Any]], kind: str) -> None:
    with pytest.raises(InvalidInput, match="extra"):
        PARSERS[kind]({**bodies[kind], "extra": 1})
    for key in bodies[kind]:
        with pytest.raises(InvalidInput, match=key):
            PARSERS[kind]({name: value for name, value in bodies[kind].items() if name != key})


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("reveal", "signature", "abc"),
        ("reveal", "signature", 5),
        ("reveal", "transcripts", {}),
        ("reveal", "transcripts", [{}]),
        ("reveal", "transcripts", [None] * 4097),
        ("reveal", "reveal", {}),
        ("proposal", "seats", "0123"),
        ("proposal", "seats", [1, 0, 2, 3]),
        ("proposal", "seats", [0, 0, 1, 2]),
        ("proposal", "seats", [True, 1, 2, 3]),
        ("proposal", "seats", [-1, 1, 2, 3]),
        ("proposal", "seats", [0, 1, 2]),
        ("proposal", "seats", list(range(1025))),
        ("proposal", "reveals", ["0x00"] * 4),
        ("proposal", "reveals", [5] * 4),
        ("proposal", "checkpoint", None),
        ("certified", "certificate", {"signers": "0x0f"}),
        ("certified", "proposal", []),
        ("vote", "signature", "0xzz"),
        ("vote", "evidence", {"rule": "x"}),
    ],
)
def test_refuses(bodies: dict[str, dict[str, Any]], kind: str, key: str, value: object) -> None:
    with pytest.raises(InvalidInput):
        PARSERS[kind]({**bodies[kind], key: value})


def test_the_digest_names_the_whole_message(story: Story) -> None:
    message = story.last().reveals[0]
    assert RevealMessage.from_json(message.to_json()).digest == message.digest
    assert story.last().reveals[1].digest != message.digest

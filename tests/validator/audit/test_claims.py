"""What may be bet on of an answer: its text only where filter and end leave no doubt. No model: ids are characters."""

from dataclasses import replace

import pytest
from exchanges import PLAIN

from models.retokenise import Retokenised
from validator.audit.claims import ClaimReader
from validator.audit.records import ReturnedLogprob, ReturnedToken

END, OTHER_END = 1, 2
IDS = tuple(map(ord, PLAIN.content))


class Spelled:
    """A model whose tokens are characters, and ends."""

    def __init__(self, ends=(END,)):
        self.ends = ends

    @property
    def only_end(self):
        return self.ends[0] if len(self.ends) == 1 else None

    def is_end(self, token_id):
        return token_id in self.ends

    def render(self, messages):
        return (5,)

    def check(self, request):
        pass

    def is_text_of(self, text, ids):
        return text == "".join(chr(token) for token in ids if token not in self.ends)

    def read_tokens(self, text, pieces):
        return None

    def can_belong(self, logprobs, ids):
        return len(logprobs) == len(ids)

    def retokenise(self, claims, texts):
        ids = (*map(ord, texts[0].text), END)
        return [
            Retokenised(
                answer=texts[0], token_ids=ids, certain_tokens=0, is_canonical=True, is_settled=True, doubts=("doubt",)
            )
        ]


def read(ends=(END,), **changes):
    """Return the claimed ids, and whether their text may be bet on."""
    reader = ClaimReader(Spelled(ends), None)
    exchange = replace(PLAIN, **{"token_ids": IDS, **changes})
    claim, note = reader.read(exchange)
    assert claim is not None, note
    return claim.request.output_ids, reader.bets_on_text(exchange, claim)


def test_the_end_that_a_server_leaves_out_is_put_back_where_it_can_be_no_other():
    assert read() == ((*IDS, END), True)
    assert read(token_ids=(*IDS, END)) == ((*IDS, END), True)


def test_an_answer_that_ended_by_length_has_no_end():
    assert read(finish_reason="length") == (IDS, True)


def test_tokens_that_spell_the_text_are_a_text_whatever_their_ids():
    spelled = tuple(ReturnedLogprob(chosen=ReturnedToken(text=letter, logprob=-1.0)) for letter in PLAIN.content)
    assert read(token_ids=(7, 8), logprobs=spelled) == ((*IDS, END), True)


@pytest.mark.parametrize("logprobs", [None, (ReturnedLogprob(chosen=ReturnedToken(text="else", logprob=-1.0)),)])
def test_ids_of_another_text_that_nothing_spells_cannot_be_judged(logprobs):
    exchange = replace(PLAIN, token_ids=(7, 8), logprobs=logprobs)
    assert ClaimReader(Spelled(), None).read(exchange) == (None, "the token ids do not spell the text")


IN_DOUBT = {
    "one of several ends": {"ends": (END, OTHER_END)},
    "a stop string, or the end": {"stop": ("\n",)},
}


@pytest.mark.parametrize("changes", IN_DOUBT.values(), ids=IN_DOUBT.keys())
def test_ids_that_lack_their_end_are_no_text_to_bet_on(changes):
    assert read(**changes) == (IDS, False)


def test_of_a_text_the_end_is_a_doubt_that_costs_evidence_already():
    assert read(token_ids=None, stop=("\n",))[1]


FILTERS = {
    "none": ({}, True),
    "a wide nucleus": ({"top_p": 0.9}, True),
    "a narrow nucleus": ({"top_p": 0.89}, False),
    "the best tokens": ({"top_k": 40}, False),
}


@pytest.mark.parametrize(("changes", "is_bet_on"), FILTERS.values(), ids=FILTERS.keys())
def test_a_filter_that_honest_numerics_decide_at_leaves_no_text_to_bet_on(changes, is_bet_on):
    assert read(**changes)[1] is is_bet_on

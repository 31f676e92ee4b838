"""What an audit writes and prints: a page that no answer can break out of, pictures, the live line."""

import html.parser
import io
import json
import math
import re
from dataclasses import replace

import pytest
from audit_fakes import FACTS, FakeAppraisal, FakeEvidence
from exchanges import PLAIN

from models.requests import ChatMessage
from scoring.evidence.contract_alarm import build_contract_alarm
from scoring.evidence.contracts import LOGPROBS, ContractOutcome
from validator.audit.asked import Asked
from validator.audit.command import build_summary
from validator.audit.facts import EndpointFacts
from validator.audit.hostile_text import make_printable
from validator.audit.measured import compute_quantiles, compute_tokens_per_s
from validator.audit.outcomes import Entry, Origin
from validator.audit.plan import ProbingPlan
from validator.audit.progress import Ended, Point, Progress
from validator.audit.records import Missing, Timing
from validator.audit.report import build_report
from validator.audit.report_picture import draw_bars, draw_martingale
from validator.audit.report_text import escape
from validator.audit.result import Subject, build_result
from validator.audit.screen import PlainScreen, build_line, build_sparks
from validator.audit.verdict import build_sentence, find_exit_code

HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e\x00\ud800"
ASKED = Asked(messages=(ChatMessage(role="user", content=HOSTILE),), max_tokens=16, seed=5)
EXCHANGE = replace(
    PLAIN,
    messages=ASKED.messages,
    seed=5,
    sampler="gumbel-philox-v1",
    is_drawn=True,
    stratum="prose",
    content=HOSTILE,
    token_ids=(1,) * 16,
    prompt_tokens=9,
    completion_tokens=16,
    timing=Timing(first_token_ms=100.0, total_ms=250.0),
    answered_model=HOSTILE,
)


def build_progress(gains: list[float | None], ended: Ended | None = Ended.DECIDED) -> Progress:
    """Return an audit whose requests gained so much each, None for a missing answer."""
    progress = Progress(
        plan=ProbingPlan(seed=bytes(32)),
        facts=EndpointFacts(served_model=HOSTILE, refused=(("seed", HOSTILE),), streams=True),
        reference=FACTS,
        evidence=FakeEvidence(channels=("seeded",)),
    )
    for index, gain in enumerate(gains):
        outcome = replace(EXCHANGE, index=index)
        if gain is None:
            outcome = Missing(index=index, reason="timeout", detail=HOSTILE)
        origin = Origin(index=index, is_drawn=True, stratum="prose")
        progress.add(Entry(origin=origin, asked=ASKED, outcome=outcome))
        note = "no answer" if gain is None else ""
        progress.fold(FakeAppraisal(index=index, log10_by_channel={"seeded": gain or -0.1}, note=note))
    progress.ended = ended
    return progress


SUBJECT = Subject(model="bundled", endpoint="http://host", transcript=None, command="quiver audit <x>", finished_s=0)


def build_page(progress: Progress) -> str:
    return build_report(progress, build_result(progress, SUBJECT)).decode()


class Reader(html.parser.HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "line", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes


def read_page(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open, "every element is closed"
    return reader


def test_hostile_text_stays_text() -> None:
    page = build_page(build_progress([2.0, None, -0.1]))
    reader = read_page(page)
    assert not {"script", "img", "iframe", "object", "form", "a", "link"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in ("style", "src", "href")]
    assert "\u202e" not in page and "⟨U+202E⟩" in page and "⟨U+D800⟩" in page


def test_broken_contracts_are_in_the_page_as_text() -> None:
    outcome = ContractOutcome(id=LOGPROBS, is_kept=False, expected=HOSTILE, found=HOSTILE)
    progress = build_progress([-0.1])
    progress.evidence = replace(progress.evidence, contract_alarm=build_contract_alarm().add([outcome]))
    page = build_page(progress)
    assert "script" not in read_page(page).tags
    assert f"<td>{LOGPROBS}</td>" in page and page.count("&lt;script&gt;alert(1)") >= 2


def test_without_contracts_the_page_has_no_table_of_them() -> None:
    assert "What it says of its answers" not in build_page(build_progress([2.0]))


def test_the_policy_allows_the_pages_own_style_and_nothing_else() -> None:
    page = build_page(build_progress([2.0]))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src &#x27;none&#x27;; style-src &#x27;sha256-" in policy.group(1)
    assert "unsafe" not in policy.group(1)
    assert page.count("<style>") == 1
    assert "http" not in re.sub(r"http-equiv|http://host|httpx", "", page)


@pytest.mark.parametrize(
    ("gains", "verdict", "code"),
    [
        ([2.0, 2.0, 2.5], "proven", 1),
        ([2.0, 0.5], "suspect", 3),
        ([-0.1], "consistent", 0),
        ([None], "uninformative", 3),
        ([], "uninformative", 3),
    ],
)
def test_every_verdict_has_its_page_and_exit_code(gains, verdict, code) -> None:
    progress = build_progress(gains)
    page = build_page(progress)
    read_page(page)
    assert f'class="badge {verdict}"' in page
    assert find_exit_code(progress) == code


def test_of_text_that_cannot_prove_the_sentence_says_what_could() -> None:
    progress = build_progress([2.0, 0.5])
    assert "--claim weights+sampling" not in build_sentence(progress, "m")
    progress.evidence = replace(progress.evidence, can_prove=False)
    assert "no proof of other weights" in build_sentence(progress, "m")
    assert "--claim weights+sampling holds" in build_sentence(progress, "m")


def test_an_interrupted_audit_exits_with_130() -> None:
    assert find_exit_code(build_progress([2.0, 2.0, 2.5], Ended.INTERRUPTED)) == 130


def test_a_page_can_be_made_before_anything_is_known() -> None:
    progress = Progress(plan=ProbingPlan(seed=bytes(32)), ended=Ended.INTERRUPTED)
    page = build_page(progress)
    assert "Not enough to tell" in page and "table" in read_page(page).tags


def test_the_result_is_plain_json_whatever_the_numbers() -> None:
    progress = build_progress([2.0])
    progress.evidence = replace(progress.evidence, log10_e=math.inf, log10_by_channel={"seeded": -math.inf})
    progress.points[0] = Point(index=0, log10_e=math.nan, log10_by_channel={"seeded": math.inf})
    result = build_result(progress, SUBJECT)
    assert json.loads(json.dumps(result, allow_nan=False))["log10_e"] is None
    read_page(build_report(progress, result).decode())


def test_the_picture_shows_threshold_alarm_channels_and_missing_answers() -> None:
    points = [Point(index=i, log10_e=i * 1.5, log10_by_channel={"seeded": i * 2.0, "<b>": 0.0}) for i in range(5)]
    picture = draw_martingale(points, threshold=6.0, alarm=2.0, missing=[3])
    assert picture.count("<polyline") == 3
    assert picture.count('class="missing"') == 1
    assert 'class="threshold"' in picture and 'class="alarm"' in picture
    assert "<b>" not in picture


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_the_picture_stays_small_and_inside(count) -> None:
    values = [(-1) ** i * 1e4 * i for i in range(count)]
    points = [Point(index=i, log10_e=value, log10_by_channel={}) for i, value in enumerate(values)]
    picture = draw_martingale(points, threshold=6.0, alarm=None)
    assert len(picture) < 60_000
    heights = [float(y) for y in re.findall(r"[0-9.]+,([0-9.-]+)", "".join(re.findall(r'points="([^"]*)"', picture)))]
    assert all(0 <= y <= 380 for y in heights)


def test_bars_are_never_longer_than_the_whole() -> None:
    bars = draw_bars([("more", 7.0), ("less", -1.0)])
    assert 'width="100.0"' in bars and 'width="0.0"' in bars


def test_escapes_what_turns_text_around() -> None:
    assert escape("a\u202eb\u200bc\r\n\td") == "a⟨U+202E⟩b⟨U+200B⟩c\r\n\td"


def test_hostile_lines_are_printable() -> None:
    assert make_printable("a\x1b[31m\n\n b\u202e") == "a?[31m b?"
    assert len(make_printable("x" * 10_000)) == 300


def test_the_live_line_says_how_it_stands() -> None:
    line = build_line(build_progress([2.0, None, 2.0]))
    for part in ("3 of 3 answers examined", "1 missing", "e-value 10^3.9 of 10^6", "likeliest: int4 weights"):
        assert part in line


def test_sparks_grow_with_the_evidence() -> None:
    assert build_sparks([-5.0, 0.0, 3.0, 6.0, 99.0], 6.0) == "▁▁▅██"


def test_plain_lines_come_every_few_seconds_only() -> None:
    stream = io.StringIO()
    with PlainScreen(stream, every_s=60) as screen:
        for _ in range(5):
            screen.show(build_progress([1.0]))
    assert len(stream.getvalue().splitlines()) == 1


def test_speed_counts_from_the_first_token() -> None:
    assert compute_tokens_per_s(EXCHANGE) == pytest.approx(15 / 0.15)
    whole = replace(EXCHANGE, timing=Timing(total_ms=200.0))
    assert compute_tokens_per_s(whole) == pytest.approx(16 / 0.2)
    short = replace(EXCHANGE, token_ids=(1,), completion_tokens=1)
    assert compute_tokens_per_s(short) is None
    at_once = replace(EXCHANGE, timing=Timing(first_token_ms=100.0, total_ms=100.0))
    assert compute_tokens_per_s(at_once) is None


def test_quantiles_of_what_is_known() -> None:
    found = compute_quantiles([None, *(float(value) for value in range(100, 0, -1))])
    assert found is not None
    assert (found.count, found.low, found.median, found.p95, found.high) == (100, 1, 50.5, 95, 100)
    assert compute_quantiles([None]) is None


@pytest.mark.parametrize(
    ("slash_e", "said"),
    [
        (6.31, "yes: 10^6.31 from bounds with enough honest requests behind them"),
        (5.9, "no: 10^5.90 from bounds with enough honest requests behind them"),
        (None, "no: the bounds are not of this machine, rest on too few requests, or prompts were not drawn"),
    ],
)
def test_a_proof_says_whether_stake_may_be_taken_for_it(slash_e, said) -> None:
    progress = build_progress([3.0, 4.0])
    progress.evidence = replace(progress.evidence, log10_slash_e=slash_e)
    result = build_result(progress, SUBJECT)
    assert result["log10_e_slash_grade"] == slash_e
    assert build_summary(result)["good for taking stake"] == said


def test_what_is_not_proven_is_not_said_to_be_good_for_taking_stake() -> None:
    assert "good for taking stake" not in build_summary(build_result(build_progress([0.1]), SUBJECT))

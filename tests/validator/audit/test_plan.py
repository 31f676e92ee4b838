"""Plans: what a plan file may say, and that options and plan never contradict each other in silence."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.alternatives import list_alternatives
from models.profiles import load_profile
from scoring.errors import InvalidInput
from scoring.probe_outlines import GENERATOR_ID_V2
from scoring.probes import GENERATOR_ID, STRATA
from validator.audit.estimate import check_budget, estimate
from validator.audit.options import AuditOptions, extend_plan, read_api_key, read_profile, resolve_plan
from validator.audit.plan import ALTERNATIVES, ProbingPlan, parse_alpha, parse_plan
from validator.audit.probe_source import TemplateProbes, open_source
from validator.audit.records import Claim

PLAN = ProbingPlan(seed=bytes(range(32)), requests=20)
TEMPLATES = replace(PLAN, generator=GENERATOR_ID, strata=STRATA)
DOCUMENT = PLAN.to_json()


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = replace(
        TEMPLATES,
        alternatives=("int4",),
        siblings=("./a", "b/c"),
        temperature_min_ppm=700_000,
        claim=Claim.WEIGHTS_AND_SAMPLING,
    )
    assert parse_plan(plan.encode()) == plan


def test_the_digest_names_every_part() -> None:
    others = [
        replace(PLAN, seed=bytes(32)),
        replace(PLAN, requests=21),
        replace(PLAN, max_tokens=65),
        replace(PLAN, temperature_min_ppm=900_000),
        replace(PLAN, top_p_min_ppm=900_000),
        replace(PLAN, strata=("prose",)),
        replace(PLAN, claim=Claim.WEIGHTS_AND_SAMPLING),
        replace(PLAN, one_over_alpha=100),
        replace(PLAN, alternatives=()),
        replace(PLAN, siblings=("./other",)),
        TEMPLATES,
    ]
    assert len({plan.compute_digest() for plan in [PLAN, *others]}) == 12


REFUSED = [
    ("another format", {"format": "quiver-audit-plan-v2"}, "format"),
    ("an unknown member", {"sead": 1}, "sead: unknown member"),
    ("a short seed", {"seed": "0x00"}, "seed"),
    ("a seed in capitals", {"seed": "0x" + "AA" * 32}, "seed"),
    ("no requests", {"requests": 0}, "requests"),
    ("requests in words", {"requests": "20"}, "requests"),
    ("requests true", {"requests": True}, "requests"),
    ("a million requests", {"requests": 10**6}, "requests"),
    ("no tokens", {"max_tokens": 0}, "max_tokens"),
    ("a single temperature", {"temperature_ppm": 10**6}, "temperature_ppm"),
    ("three temperatures", {"temperature_ppm": [1, 2, 3]}, "temperature_ppm"),
    ("temperatures turned round", {"temperature_ppm": [1_000_000, 900_000]}, "temperature_ppm"),
    ("temperature 3", {"temperature_ppm": [0, 3_000_000]}, "temperature_ppm"),
    ("top_p 0", {"top_p_ppm": [0, 1_000_000]}, "top_p_ppm"),
    ("an unknown stratum", {"strata": ["poetry"]}, "strata"),
    ("a stratum of another generator", {"strata": ["transform"]}, "strata"),
    ("a stratum twice", {"strata": ["prose", "prose"]}, "strata"),
    ("no strata", {"strata": []}, "strata"),
    ("strata of text", {"strata": "prose"}, "strata"),
    ("another claim", {"claim": "price"}, "claim"),
    ("a claim that is an object", {"claim": {}}, "claim"),
    ("alpha 1", {"one_over_alpha": 1}, "one_over_alpha"),
    ("alternatives of numbers", {"alternatives": [4]}, "alternatives"),
    ("an unknown alternative", {"alternatives": ["int4", "int3"]}, "alternatives: 'int3' is none of int8, fp8"),
    ("another generator", {"generator": "dice"}, "generator"),
    ("siblings that are no list", {"siblings": "./other"}, "siblings"),
    ("siblings of numbers", {"siblings": [4]}, "siblings"),
    ("a sibling without a name", {"siblings": [""]}, "siblings"),
    ("a sibling twice", {"siblings": ["a", "a"]}, "siblings"),
    ("too many siblings", {"siblings": list("abcde")}, "siblings"),
]


@pytest.mark.parametrize(("changes", "field"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refuses(changes, field) -> None:
    with pytest.raises(InvalidInput, match=field):
        parse_plan(json.dumps({**DOCUMENT, **changes}).encode())


@pytest.mark.parametrize("member", list(DOCUMENT))
def test_refuses_a_plan_without(member) -> None:
    document = {name: value for name, value in DOCUMENT.items() if name != member}
    with pytest.raises(InvalidInput, match=member):
        parse_plan(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"requests": 1.5}', b"[" * 9999, b" " * 70_000])
def test_refuses_what_is_no_plan(data) -> None:
    with pytest.raises(InvalidInput):
        parse_plan(data)


def options(**changes: object) -> AuditOptions:
    return AuditOptions(**{"model": "bundled", "endpoint": "http://127.0.0.1:8000", **changes})


def test_a_plan_that_is_not_there_is_made_and_kept(tmp_path) -> None:
    path = tmp_path / "plan.json"
    first = resolve_plan(options(plan_path=path, max_requests=7, alpha=1e-4, claim=Claim.WEIGHTS_AND_SAMPLING))
    assert (first.requests, first.one_over_alpha, first.claim) == (7, 10_000, Claim.WEIGHTS_AND_SAMPLING)
    assert resolve_plan(options(plan_path=path)) == first


def test_without_a_plan_every_audit_has_a_seed_of_its_own() -> None:
    assert resolve_plan(options()).seed != resolve_plan(options()).seed


def test_a_plan_may_name_every_alternative_that_a_model_can_have() -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(num_hidden_layers=30))
    model = SimpleNamespace(model=SimpleNamespace(config=config), tokenizer=SimpleNamespace(chat_template="x"))
    assert {item.id for item in list_alternatives(model)} == set(ALTERNATIVES)


@pytest.mark.parametrize(
    ("alpha", "one_over"),
    [(0.5, 2), (0.4, 3), (0.3, 4), (1 / 3, 3), (0.25, 4), (0.1, 10), (3e-6, 333_334), (1e-6, 10**6), (1e-12, 10**12)],
)
def test_the_chance_of_an_error_is_never_above_the_one_asked_for(alpha, one_over) -> None:
    assert parse_alpha(alpha) == one_over
    assert 1 / one_over <= alpha


@given(st.integers(2, 10**12))
def test_one_over_n_stays_n(one_over) -> None:
    assert parse_alpha(1 / one_over) == one_over


@pytest.mark.parametrize("alpha", [0.0, -1.0, 0.51, 1e-13, math.nan, math.inf])
def test_refuses_an_alpha_out_of_range(alpha) -> None:
    with pytest.raises(InvalidInput, match="--alpha"):
        parse_alpha(alpha)


CONTRADICTIONS = [
    {"max_requests": 21},
    {"alpha": 1e-3},
    {"claim": Claim.WEIGHTS_AND_SAMPLING},
    {"siblings": ("./other",)},
]


@pytest.mark.parametrize("change", CONTRADICTIONS)
def test_an_option_must_not_contradict_the_plan(tmp_path, change) -> None:
    (tmp_path / "plan.json").write_bytes(PLAN.encode())
    with pytest.raises(InvalidInput, match="the plan says"):
        resolve_plan(options(plan_path=tmp_path / "plan.json", **change))


def test_an_audit_that_goes_on_may_ask_more_but_claim_nothing_else() -> None:
    assert extend_plan(options(max_requests=50), PLAN).requests == 50
    with pytest.raises(InvalidInput, match="the plan says"):
        extend_plan(options(alpha=0.1), PLAN)


def test_an_audit_that_goes_on_keeps_its_plan(tmp_path) -> None:
    (tmp_path / "plan.json").write_bytes(replace(PLAN, seed=bytes(32)).encode())
    with pytest.raises(InvalidInput, match="another plan"):
        extend_plan(options(plan_path=tmp_path / "plan.json"), PLAN)


def test_siblings_are_of_the_plan_and_of_the_command_that_does_it_again() -> None:
    asked = options(siblings=("./other", "org/model"))
    assert resolve_plan(asked).siblings == ("./other", "org/model")
    assert "--sibling ./other --sibling org/model" in asked.build_command()


BAD_OPTIONS = [
    ("neither endpoint nor transcript", {"endpoint": None}, "one of the two"),
    ("both", {"transcript": "t.jsonl"}, "one of the two"),
    ("a dry run of a transcript", {"endpoint": None, "transcript": "t", "is_dry_run": True}, "--dry-run"),
    ("a resumed transcript", {"endpoint": None, "transcript": "t", "is_resumed": True}, "--resume"),
    ("a name for nobody", {"endpoint": None, "transcript": "t", "served_model": "m"}, "--served-model"),
    ("a key for nobody", {"endpoint": None, "transcript": "t", "api_key_env": "KEY"}, "--api-key-env"),
    ("a budget for nothing", {"endpoint": None, "transcript": "t", "budget_tokens": 9000}, "--budget-tokens"),
    ("no requests at once", {"endpoint": None, "transcript": "t", "concurrency": 4}, "--concurrency"),
    ("a dry run that goes on", {"is_dry_run": True, "is_resumed": True}, "--dry-run"),
    ("no URL", {"endpoint": "localhost:8000"}, "--endpoint"),
    ("another scheme", {"endpoint": "ftp://host"}, "--endpoint"),
    ("a password in the URL", {"endpoint": "http://me:secret@host"}, "--endpoint"),
    ("a query in the URL", {"endpoint": "http://host/?key=1"}, "--endpoint"),
    ("no port", {"endpoint": "http://host:99999"}, "--endpoint"),
    ("half an address", {"endpoint": "http://[::1"}, "--endpoint"),
    ("a key for a name", {"api_key_env": "sk-abc123"}, "not the key itself"),
    ("a reference that is none", {"reference": "gpu"}, "--reference"),
    ("a reference over another scheme", {"reference": "ftp://host"}, "--reference"),
    ("a password in the reference", {"reference": "http://me:secret@host"}, "--reference"),
    ("a key for no server", {"reference_key_env": "KEY"}, "only a server takes a key"),
    ("a key for its name", {"reference": "http://host", "reference_key_env": "sk-abc123"}, "not the key itself"),
]


def test_a_model_that_runs_elsewhere_writes_no_prompts() -> None:
    assert resolve_plan(options(reference="http://host", model="./my-model")).generator == "quiver-probes-v1"
    assert resolve_plan(options(reference="http://host", model="bundled")).generator == "quiver-probes-v2"
    assert resolve_plan(options(reference="cpu", model="./my-model")).generator == "quiver-probes-v2"


def test_a_profile_is_read_from_its_file(tmp_path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(load_profile("bundled_audit").encode())
    found = read_profile(options(profile_path=path))
    assert found == load_profile("bundled_audit")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InvalidInput):
        read_profile(options(profile_path=path))


@pytest.mark.parametrize(("changes", "message"), [row[1:] for row in BAD_OPTIONS], ids=[row[0] for row in BAD_OPTIONS])
def test_refuses_options(changes, message) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        options(**changes)
    assert "secret" not in str(caught.value) and "sk-abc123" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    ["http://host:1/api", "http://host:1/api/", "http://host:1/api/v1", " http://host:1/api/v1/chat/completions "],
)
def test_takes_an_endpoint_with_or_without_its_route(endpoint) -> None:
    assert options(endpoint=endpoint).base_url == "http://host:1/api"


def test_a_key_comes_from_the_environment_alone() -> None:
    assert read_api_key(options(), {"KEY": "x"}) is None
    assert read_api_key(options(api_key_env="KEY"), {"KEY": " x \n"}) == "x"
    for environment in ({}, {"KEY": ""}, {"KEY": "secret\nvalue"}, {"KEY": "schlüssel"}):
        with pytest.raises(InvalidInput, match="KEY") as caught:
            read_api_key(options(api_key_env="KEY"), environment)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "is_open"),
    [("http://api.example.com", True), ("https://api.example.com", False), ("http://localhost", False)],
)
def test_says_when_a_key_would_travel_openly(endpoint, is_open) -> None:
    assert options(endpoint=endpoint, api_key_env="KEY").sends_key_openly is is_open


def test_the_command_can_be_run_again(tmp_path) -> None:
    command = options(api_key_env="KEY", plan_path=tmp_path / "a plan.json", max_requests=5).build_command()
    assert command.startswith("quiver audit --endpoint http://127.0.0.1:8000 --model bundled --api-key-env KEY")
    assert "'" in command


def test_an_estimate_keeps_to_the_budget() -> None:
    whole, part = estimate(PLAN, 4, None), estimate(PLAN, 4, 2500)
    assert whole.requests == 20
    assert 0 < part.requests < 20
    assert part.first_look_tokens + part.prompt_tokens + part.answer_tokens <= 2500


@pytest.mark.parametrize("plan", [PLAN, TEMPLATES, replace(PLAN, max_tokens=4096)])
def test_the_least_budget_is_enough_for_one_request_whatever_is_drawn(plan) -> None:
    least = 6 * (256 + 48) + 256 + plan.max_tokens
    with pytest.raises(InvalidInput, match=f"can take {least} tokens"):
        check_budget(plan, least - 1)
    check_budget(plan, None)
    for number in range(50):
        drawn = replace(plan, seed=number.to_bytes(32, "big"))
        check_budget(drawn, least)
        assert estimate(drawn, 4, least).requests >= 1


def test_an_estimate_shows_prompts_when_no_model_has_to_write_them() -> None:
    assert estimate(PLAN, 4, None).examples == ()
    assert len(estimate(TEMPLATES, 4, None).examples) == 3


def test_a_probe_depends_on_its_seed_alone() -> None:
    source = TemplateProbes(TEMPLATES)
    seeds = [TEMPLATES.compute_probe_seed(index) for index in range(5)]
    assert source.draw(seeds)[3] == source.draw(seeds[3:4])[0]
    assert len({probe.sampler_seed for probe in source.draw(seeds)}) == 5


def test_the_source_is_that_of_the_plans_generator() -> None:
    assert isinstance(open_source(TEMPLATES, "bundled"), TemplateProbes)
    assert PLAN.generator == GENERATOR_ID_V2
    assert not isinstance(open_source(PLAN, "bundled"), TemplateProbes)

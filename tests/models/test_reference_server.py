"""A vLLM server as the reference: what it says is what the weights here say, and bad answers are told by name."""

import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fake_vllm import FakeVllm, serve_vllm

from models.alternatives import Alternative, SkippedAlternative
from models.generate import generate
from models.load import load_model, load_outline
from models.local_passes import LocalPasses
from models.partial_statistics import TOP
from models.passes import open_passes
from models.reference_server import ReferenceServer
from models.requests import ChatMessage, GenerationRequest, ReferenceRequest
from models.sure_answer import find_sure_answer
from scoring.errors import InvalidInput, Unavailable

RECORDED = json.loads((Path(__file__).parent / "vllm_answers.json").read_text())
MESSAGES = (ChatMessage(role="user", content="Why is the sky blue?"),)
REQUEST = ReferenceRequest(prompt_ids=(1, 2, 3), output_ids=(4, 5))


@pytest.fixture(scope="module")
def fake(tiny):
    return FakeVllm(tiny)


@pytest.fixture(scope="module")
def server_passes(fake, tiny_folder):
    # Of English the random model knows nothing.
    with serve_vllm(fake) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.server_passes.LEAST_MEAN", -100.0)
        passes = open_passes(str(tiny_folder), url)
        yield passes
        passes.close()


@pytest.fixture(scope="module")
def local_passes(tiny_folder):
    return LocalPasses(str(tiny_folder), device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def claims(tiny):
    asked = [
        GenerationRequest(prompt_ids=tuple(b"a prompt"[number:]), max_tokens=20, seed=number) for number in range(3)
    ]
    return [
        ReferenceRequest(
            prompt_ids=request.prompt_ids, output_ids=found.token_ids, seed=request.seed, sampler="gumbel-philox-v1"
        )
        for request, found in zip(asked, generate(tiny, asked), strict=True)
    ]


def test_an_outline_is_the_model_without_its_weights(tiny, tiny_folder) -> None:
    outline = load_outline(str(tiny_folder))
    assert outline.manifest == tiny.manifest
    assert outline.end_ids == tiny.end_ids
    assert {parameter.device.type for parameter in outline.model.parameters()} == {"meta"}


def test_an_outline_needs_no_weights(tiny_folder, tmp_path) -> None:
    for path in tiny_folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert load_outline(str(tmp_path)).manifest.vocabulary_size == 300
    with pytest.raises(InvalidInput, match=r"no \.safetensors"):
        load_model(str(tmp_path))


def test_a_server_says_what_the_weights_here_say(server_passes, local_passes, claims) -> None:
    for told, exact in zip(server_passes.score(claims), local_passes.score(claims), strict=True):
        assert told.logprob == pytest.approx(exact.logprob, abs=1e-3)
        assert told.margin == pytest.approx(exact.margin, abs=1e-3)


def test_other_sampling_costs_no_second_question(server_passes, fake, claims) -> None:
    server_passes.score(claims)
    before = len(fake.asked)
    server_passes.score_again([replace(claim, temperature=0.8, top_p=0.9) for claim in claims])
    assert len(fake.asked) == before


def test_another_prompt_is_asked_of_the_server(server_passes, local_passes, claims) -> None:
    alternative = next(item for item in server_passes.alternatives if item.id == "hidden-prompt-short")
    messages = [MESSAGES] * len(claims)
    told = server_passes.run_alternative(alternative, claims, messages)
    exact = local_passes.run_alternative(
        alternative, [replace(claim, seed=None, sampler="none") for claim in claims], messages
    )
    for ours, theirs in zip(told, exact, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3)


def test_a_prompt_that_stays_the_same_is_skipped(server_passes, claims) -> None:
    alternative = Alternative(id="last-512-tokens", kind="truncated-context", parameters=(("tokens", 512),))
    (found,) = server_passes.run_alternative(alternative, claims[:1], [MESSAGES])
    assert isinstance(found, SkippedAlternative)


def test_the_sure_answer_is_that_of_the_weights_here(server_passes, local_passes) -> None:
    expected = find_sure_answer(local_passes.loaded, MESSAGES, 16)
    assert server_passes.find_sure_answer(MESSAGES, 16) == expected


def test_a_server_runs_no_other_weights_and_shows_no_states(server_passes, claims) -> None:
    assert {item.kind for item in server_passes.alternatives} == {
        "hidden-prompt",
        "wrong-template",
        "truncated-context",
    }
    assert server_passes.run_second(claims) == [None] * 3
    assert server_passes.measure_proofs(claims[0], ()) is None


def test_more_tokens_than_the_server_takes_are_refused(server_passes) -> None:
    with pytest.raises(InvalidInput, match="do not fit the reference server's 256"):
        server_passes.check(ReferenceRequest(prompt_ids=(1,) * 200, output_ids=(1,) * 56))


def test_a_server_with_other_tokens_is_refused(bundled, tiny_folder, monkeypatch) -> None:
    monkeypatch.setattr("models.server_passes.LEAST_MEAN", -0.01)
    with (
        serve_vllm(FakeVllm(load_model(str(tiny_folder), dtype="fp32"))) as url,
        pytest.raises(InvalidInput, match="another model"),
    ):
        open_passes(str(tiny_folder), url)


def respond(document: object, status: int = 200) -> httpx.Response:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return httpx.Response(status, stream=httpx.ByteStream(content))


def answer_with(completion: object, status: int = 200, models: object = None) -> ReferenceServer:
    """Return a server whose completions are this document (or these bytes)."""
    listed = {"data": [{"id": "a", "max_model_len": 64}]} if models is None else models

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return respond(listed)
        return respond(completion, status)

    return ReferenceServer.connect("http://reference/v1", transport=httpx.MockTransport(handle))


def build_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {str(token): {"logprob": -1.0 - token} for token in range(4, 4 + TOP)}
    return {name: value for name, value in {**row, **changes}.items() if value is not None}


def build_answer(row: object) -> object:
    return {"choices": [{"prompt_logprobs": [None, {}, {}, build_row(), row]}]}


REFUSED = {
    "not JSON": (b"<html>", "is not JSON"),
    "deeply nested": (b"[" * 50_000, "is not JSON"),
    "NaN": (b'{"choices": NaN}', "is not JSON"),
    "no choice": ({"choices": []}, "not one choice"),
    "a list": ([], "not one choice"),
    "no prompt_logprobs": ({"choices": [{"text": "hello"}]}, "is it vLLM"),
    "too few places": ({"choices": [{"prompt_logprobs": [None, {}]}]}, "is it vLLM"),
    "a place that is none": (build_answer(None), "other than 20 tokens"),
    "without the given token": (
        build_answer(build_row(**{"5": None, "99": {"logprob": -9.0}})),
        "other than 20 tokens",
    ),
    "too few tokens": (build_answer(build_row(**{"9": None})), "other than 20 tokens"),
    "tokens by text": (build_answer(build_row(**{"9": None, "sky": {"logprob": -1.0}})), "not by token id"),
    "no log-probability": (build_answer(build_row(**{"9": {}})), "not finite numbers"),
    "a positive one": (build_answer(build_row(**{"9": {"logprob": 0.5}})), "not finite numbers"),
    "a truth value": (build_answer(build_row(**{"9": {"logprob": False}})), "not finite numbers"),
    "more than 1 in all": (
        build_answer({str(token): {"logprob": -0.1} for token in range(4, 4 + TOP)}),
        "sum to more than 1",
    ),
    "too long": (b" " * 200_000, "longer than"),
}


@pytest.mark.parametrize(("answer", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_bad_answer_is_the_references_fault_and_told(answer, reason) -> None:
    with pytest.raises(Unavailable, match=reason):
        answer_with(answer).tell([REQUEST])


def test_an_error_is_told_in_the_servers_words() -> None:
    with pytest.raises(Unavailable, match="answered 400: Requested prompt logprobs of 20"):
        answer_with({"error": {"message": "Requested prompt logprobs of 20\x07"}}, 400).tell([REQUEST])


def test_a_busy_server_is_asked_again(monkeypatch) -> None:
    monkeypatch.setattr("models.reference_server.PAUSE_S", 0.0)
    statuses = iter([503, 429, 200])

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return respond({"data": [{"id": "a"}]})
        return respond(build_answer(build_row()), next(statuses))

    server = ReferenceServer.connect("http://reference", transport=httpx.MockTransport(handle))
    assert len(server.tell([REQUEST])[0]) == 2


def test_a_server_that_drips_bytes_is_left(monkeypatch) -> None:
    monkeypatch.setattr("models.reference_server.PAUSE_S", 0.0)
    server = answer_with({})
    monkeypatch.setattr("models.reference_server.TIMEOUT_S", -1.0)
    with pytest.raises(Unavailable, match="did not end its answer in time"):
        server.tell([REQUEST])


def test_what_is_remembered_is_bounded(server_passes, fake, claims, monkeypatch) -> None:
    monkeypatch.setattr("models.server_passes.REMEMBERED", 1)
    server_passes.score(claims)
    before = len(fake.asked)
    server_passes.score(claims)
    assert len(fake.asked) == before + len(claims) - 1


def test_a_server_that_stays_away_is_unavailable(monkeypatch) -> None:
    monkeypatch.setattr("models.reference_server.PAUSE_S", 0.0)
    with pytest.raises(Unavailable, match="cannot be reached"):
        ReferenceServer.connect("http://127.0.0.1:9")


MODELS = {
    "none": ({"data": []}, "no model"),
    "several": ({"data": [{"id": "a"}, {"id": "b"}]}, "lists a, b"),
    "no list": ({}, "no model"),
    "names that are none": ({"data": [{"id": 3}, "a"]}, "no model"),
}


@pytest.mark.parametrize(("models", "reason"), MODELS.values(), ids=MODELS)
def test_the_server_serves_one_model(models, reason) -> None:
    with pytest.raises(InvalidInput, match=reason):
        answer_with({}, models=models)


@pytest.mark.slow
def test_the_stand_in_answers_as_a_recorded_vllm_did(bundled) -> None:
    with serve_vllm(FakeVllm(bundled)) as url:
        for request, recorded in zip(RECORDED["requests"], RECORDED["answers"], strict=True):
            answer = httpx.post(f"{url}/v1/completions", json=request, timeout=60).json()
            (ours,), (theirs,) = answer["choices"], recorded["choices"]
            assert ours.keys() <= theirs.keys()
            assert ours["token_ids"] == theirs["token_ids"]
            rows = zip(ours["prompt_logprobs"] or [], theirs["prompt_logprobs"] or [], strict=True)
            for place, (row, real) in enumerate(rows):
                assert (row is None) == (real is None) == (place == 0)
                shared = set(row or ()) & set(real or ())
                assert len(shared) >= 0.8 * len(real or ())
                gaps = [abs(row[one]["logprob"] - real[one]["logprob"]) for one in shared]
                # Both round their logits to an eighth.
                assert sum(gaps) <= 0.4 * len(gaps)


@pytest.mark.slow
def test_a_recorded_vllm_is_read_as_the_weights_here_say(bundled) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return respond(RECORDED["models"])
        return respond(RECORDED["answers"]["prompt_logprobs" not in json.loads(request.content)])

    server = ReferenceServer.connect("http://recorded", transport=httpx.MockTransport(handle))
    ids, count = RECORDED["requests"][0]["prompt"], RECORDED["answer_tokens"]
    request = ReferenceRequest(prompt_ids=tuple(ids[:-count]), output_ids=tuple(ids[-count:]))
    (told,) = server.tell([request])
    (exact,) = LocalPasses("bundled", device="cpu").score([request])
    assert [item.claimed for item in told] == pytest.approx(exact.raw_logprob, abs=0.3)
    assert max(item.place for item in told) == TOP
    assert server.continue_greedily((1, 2), 6).token_ids == tuple(RECORDED["answers"][1]["choices"][0]["token_ids"])

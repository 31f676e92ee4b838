"""The throughput figures are of the work that they say: on a random model, small enough to run in a moment."""

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def random_tiny():
    from benchmarks.verify_throughput import open_model

    return open_model("random-tiny", dtype="fp32", device="cpu")


def build_items():
    from models.requests import ReferenceRequest

    return [
        ReferenceRequest(prompt_ids=tuple(range(1, 4 + length)), output_ids=tuple(range(7, 9 + length)))
        for length in (5, 30, 1, 12)
    ]


def test_it_prints_what_it_measured(capsys):
    from benchmarks.verify_throughput import main

    main(["--model", "random-tiny", "--batch", "3", "--tokens", "5", "--rounds", "1", "--device", "cpu", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["output_tokens"] == 15
    assert report["read_tokens"] > 15
    assert report["verified_over_generated"] == pytest.approx(
        report["verified_tokens_per_s"] / report["generated_tokens_per_s"]
    )
    assert 0 < report["outside_share"] < 1
    assert 0 < report["whole_matrix_share"] < report["forward_matrix_share"]
    assert report["gpu_memory"] is None


def test_the_text_has_the_figures(random_tiny):
    from benchmarks.verify_throughput import measure, render

    report = measure(random_tiny, batch=2, tokens=4, rounds=1)
    text = render(report)
    assert f"{report.outside_share:.1%} of the time" in text
    assert f"{report.verified_over_generated:.1f} times generation" in text


def test_the_stopwatch_runs_in_everything_that_the_model_does_for_an_answer(random_tiny, monkeypatch):
    import models.reference
    from benchmarks.machine import add_up, watch

    projected = []
    real = models.reference.project_unrounded
    monkeypatch.setattr(
        models.reference,
        "project_unrounded",
        lambda loaded, hidden: projected.append(len(hidden)) or real(loaded, hidden),
    )
    items = build_items()
    with watch("cpu", models.reference, "compute_answer_states", "project_unrounded") as calls:
        models.reference.score_batch(random_tiny, items)
    assert sum(projected) == sum(len(item.output_ids) for item in items)
    assert len(calls) == 1 + len(projected)
    assert add_up(calls).wall_s > 0
    models.reference.score_batch(random_tiny, items)
    assert len(calls) == 1 + len(projected) // 2


def test_operations_are_counted_from_the_weights(random_tiny):
    from benchmarks.machine import count_flops

    items = build_items()
    read = [len(item.prompt_ids) + len(item.output_ids) - 1 for item in items]
    layer = 64 * (64 + 32 + 32 + 64) + 3 * 64 * 128
    attention = 2 * 2 * 64 * sum(count**2 for count in read)
    head = 2 * 64 * 512 * sum(len(item.output_ids) for item in items)
    assert count_flops(random_tiny, items) == 2 * 2 * layer * sum(read) + attention + head


def test_a_random_model_is_the_same_every_time(random_tiny):
    import torch

    from benchmarks.random_model import build_random_model

    again = build_random_model("random-tiny", dtype="fp32")
    weights = random_tiny.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.model.state_dict().items())


def test_an_unknown_random_model_is_refused():
    from benchmarks.random_model import build_random_model
    from scoring.errors import InvalidInput

    with pytest.raises(InvalidInput):
        build_random_model("random-3b")

"""docs/audit.md tells the truth: its schemas fit what is written and read, its tables name what there is."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from models.requests import SAMPLERS
from scoring.errors import InvalidInput
from validator.audit.command import run_audit
from validator.audit.options import AuditOptions
from validator.audit.plan import ProbingPlan
from validator.audit.transcript import parse_document, parse_entry
from validator.audit.verdict import EXIT_CODES
from validator.cli.audit import audit

TEXT = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
SEED = 1
KINDS = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
    "number": (int, float),
}  # fmt: skip
KEYWORDS = {
    "type", "required", "properties", "additionalProperties", "items", "enum", "minimum", "maximum", "minItems",
    "maxItems", "description",
}  # fmt: skip


def read_schema(name: str) -> dict[str, Any]:
    found = re.search(rf"<!-- schema: {name} -->\n```json\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    schema: dict[str, Any] = json.loads(found.group(1))
    return schema


def find_problems(value: object, schema: dict[str, Any], path: str = "$") -> list[str]:
    """Return what a value has against a JSON schema, for the keywords that the page uses."""
    assert set(schema) <= KEYWORDS, "a keyword that this checker does not know would pass for true"
    kinds = schema.get("type", [])
    names = [kinds] if isinstance(kinds, str) else kinds
    if names and not any(_is_kind(value, name) for name in names):
        return [f"{path}: {value!r} is not {names}"]
    problems = []
    if "enum" in schema and value not in schema["enum"]:
        problems.append(f"{path}: {value!r} is not in {schema['enum']}")
    if isinstance(value, int | float):
        is_inside = schema.get("minimum", value) <= value <= schema.get("maximum", value)
        problems += [] if is_inside else [f"{path}: {value} is out of range"]
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            problems.append(f"{path}: {len(value)} items")
        for index, item in enumerate(value):
            problems += find_problems(item, schema.get("items", {}), f"{path}[{index}]")
    if isinstance(value, dict):
        problems += _find_problems_of_members(value, schema, path)
    return problems


def _find_problems_of_members(value: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    problems = [f"{path}: {name} is missing" for name in schema.get("required", []) if name not in value]
    others = schema.get("additionalProperties", {})
    for name, item in value.items():
        inner = schema.get("properties", {}).get(name, others)
        if inner is False:
            problems.append(f"{path}: {name} is not in the schema")
        else:
            problems += find_problems(item, inner, f"{path}.{name}")
    return problems


def _is_kind(value: object, name: str) -> bool:
    return isinstance(value, KINDS[name]) and (name == "boolean" or not isinstance(value, bool))


@pytest.fixture
def written(served, opener, tmp_path):
    """Audit an endpoint that lies, breaks and repeats; return the result and the lines of the transcript."""
    served.fake.share_of_lies = 0.1
    # Of these twenty answers two are lies: neither none, nor enough to end the audit.
    (tmp_path / "plan.json").write_bytes(ProbingPlan(seed=bytes([SEED]) * 32, requests=20).encode())
    options = AuditOptions(
        model="bundled",
        plan_path=tmp_path / "plan.json",
        endpoint=served.url,
        json_path=tmp_path / "r.json",
        transcript_path=tmp_path / "t.jsonl",
    )
    run_audit(options, opener.instruments, io.StringIO())
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    return json.loads((tmp_path / "r.json").read_text()), lines


def test_a_result_fits_its_schema(written) -> None:
    result, _ = written
    schema = read_schema("result")
    assert find_problems(result, schema) == []
    assert set(schema["required"]) == set(schema["properties"]) == set(result)


def test_the_checker_sees_what_is_wrong(written) -> None:
    result, _ = written
    schema = read_schema("result")
    for change in (
        {"verdict": "guilty"},
        {"requests": "5"},
        {"requests": True},
        {"more": 1},
        {"channels": {"text": {}}},
    ):
        assert find_problems({**result, **change}, schema)
    assert find_problems({name: value for name, value in result.items() if name != "plan"}, schema)


def test_the_lines_of_a_transcript_fit_their_schema(written) -> None:
    _, lines = written
    schema = read_schema("transcript line")
    assert [find_problems(line, schema) for line in lines] == [[]] * 20
    assert {name for line in lines for name in line} >= {"request", "response", "sampler", "timing", "audit"}


MINIMAL = {
    "request": {"messages": [{"role": "user", "content": "Hi"}]},
    "response": {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]},
}


def test_the_least_that_the_schema_asks_for_is_read() -> None:
    assert find_problems(MINIMAL, read_schema("transcript line")) == []
    parse_entry(parse_document(json.dumps(MINIMAL).encode()), [])


@pytest.mark.parametrize(
    "change",
    [
        {"request": {"messages": []}},
        {"request": {**MINIMAL["request"], "temperature": 3}},
        {"request": {**MINIMAL["request"], "seed": -1}},
        {"response": {"choices": []}},
        {"sampler": "dice"},
        {"timing": {"ms": 1}},
        {"audit": {"is_drawn": True}},
        {"more": 1},
    ],
)
def test_what_the_schema_forbids_is_refused(change) -> None:
    document = {**MINIMAL, **change}
    assert find_problems(document, read_schema("transcript line"))
    with pytest.raises(InvalidInput):
        parse_entry(parse_document(json.dumps(document).encode()), [])


def test_the_schema_knows_every_sampler() -> None:
    assert set(read_schema("transcript line")["properties"]["sampler"]["enum"]) == {*SAMPLERS, None}


def test_every_option_is_documented() -> None:
    table = TEXT[TEXT.index("## Options") : TEXT.index("## Interrupting")]
    for parameter in audit.params:
        assert f"`{parameter.opts[0]}" in table or f", `{parameter.opts[0]}`" in table, parameter.opts


def test_every_verdict_is_documented_with_its_exit_code() -> None:
    for verdict, code in EXIT_CODES.items():
        assert f"| `{verdict}` | {code} |" in TEXT


def test_every_member_of_a_plan_is_documented() -> None:
    table = TEXT[TEXT.index("## Plans") : TEXT.index("## Transcripts")]
    for name in ProbingPlan(seed=bytes(32), siblings=("./other",)).to_json():
        assert f"`{name}`" in table


@pytest.mark.parametrize("name", ["log10_e", "log10_alarm", "is_alarm", "requests_asked", "tokens_spent"])
def test_what_a_number_means_is_said_before_the_schema(name) -> None:
    assert f"`{name}`" in TEXT[TEXT.index("## The result") : TEXT.index("<!-- schema: result -->")]

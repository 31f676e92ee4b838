"""What a person asked `quiver audit` for, checked, and the plan that follows from it."""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from scoring.errors import InvalidInput
from scoring.evidence.profile import MAX_PROFILE_BYTES, ToleranceProfile
from scoring.probes import GENERATOR_ID, STRATA
from validator.audit.endpoint_url import parse_base_url
from validator.audit.plan import DEFAULT_REQUESTS, MAX_PLAN_BYTES, ProbingPlan, draw_seed, parse_alpha, parse_plan
from validator.audit.records import Claim
from validator.cli.output import check_writable, decode_file, write_file

DEFAULT_CONCURRENCY = 4
DEFAULT_JOURNAL = Path("quiver-audit.journal.jsonl")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}", re.IGNORECASE)
DEVICES = ("auto", "cpu", "cuda")
_OF_ASKING = {
    "--served-model": "served_model",
    "--api-key-env": "api_key_env",
    "--budget-tokens": "budget_tokens",
    "--concurrency": "concurrency",
    "--dry-run": "is_dry_run",
    "--resume": "is_resumed",
}
"""Options without a meaning where nobody is asked."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """The arguments of one audit. `claim`, `alpha` and `max_requests` None leave the choice to the plan, `concurrency`
    None takes the usual number.
    """

    model: str
    endpoint: str | None = None
    transcript: Path | None = None
    served_model: str | None = None
    api_key_env: str | None = None
    claim: Claim | None = None
    reference: str = "auto"
    reference_key_env: str | None = None
    profile_path: Path | None = None
    siblings: tuple[str, ...] = ()
    alpha: float | None = None
    max_requests: int | None = None
    budget_tokens: int | None = None
    concurrency: int | None = None
    plan_path: Path | None = None
    is_dry_run: bool = False
    is_resumed: bool = False
    json_path: Path | None = None
    html_path: Path | None = None
    transcript_path: Path | None = None

    def __post_init__(self) -> None:
        if (self.endpoint is None) == (self.transcript is None):
            raise InvalidInput("give --endpoint URL or --transcript FILE, one of the two")
        for option, member in _OF_ASKING.items():
            if self.transcript is not None and getattr(self, member):
                raise InvalidInput("a transcript is judged without asking anybody", option)
        if self.is_dry_run and self.is_resumed:
            raise InvalidInput("says what a new audit would ask: leave --resume out", "--dry-run")
        if self.endpoint is not None:
            parse_base_url(self.endpoint)
        if self.reference not in DEVICES:
            if "://" not in self.reference:
                raise InvalidInput("expected auto, cpu, cuda, or the URL of a vLLM server", "--reference")
            parse_base_url(self.reference, "--reference")
        elif self.reference_key_env is not None:
            raise InvalidInput("only a server takes a key: give its URL as --reference", "--reference-key-env")
        for option, name in (("--api-key-env", self.api_key_env), ("--reference-key-env", self.reference_key_env)):
            if name is not None and not _VARIABLE.fullmatch(name):
                # Not repeated: people put the key itself there.
                raise InvalidInput("expected the NAME of an environment variable, not the key itself", option)

    @property
    def base_url(self) -> str:
        """The endpoint's URL without `/v1`."""
        return parse_base_url(self.endpoint or "")

    @property
    def journal_path(self) -> Path:
        """Where the exchanges are kept: beside the result, else in the working folder."""
        beside = self.json_path or self.html_path or self.transcript_path
        return DEFAULT_JOURNAL if beside is None else beside.with_name(beside.name + ".journal.jsonl")

    @property
    def outputs(self) -> dict[str, Path]:
        """The files that are written at the end, by option."""
        named = {"--json": self.json_path, "--html": self.html_path, "--save-transcript": self.transcript_path}
        return {option: path for option, path in named.items() if path is not None}

    @property
    def writes_prompts(self) -> bool:
        """Whether the claimed model can write the prompts: its weights are here, and not on a server alone."""
        return self.reference in DEVICES or self.model == "bundled"

    @property
    def sends_key_openly(self) -> bool:
        """Whether an API key would leave this machine unencrypted."""
        parts = urlsplit(self.base_url)
        return self.api_key_env is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK

    def build_command(self) -> str:
        """Return the command that does this again."""
        pairs: list[tuple[str, object]] = [
            ("--endpoint", self.endpoint),
            ("--transcript", self.transcript),
            ("--model", self.model),
            ("--served-model", self.served_model),
            ("--api-key-env", self.api_key_env),
            ("--claim", self.claim),
            ("--reference", None if self.reference == "auto" else self.reference),
            ("--reference-key-env", self.reference_key_env),
            ("--profile", self.profile_path),
            *(("--sibling", name) for name in self.siblings),
            ("--alpha", self.alpha),
            ("--max-requests", self.max_requests),
            ("--budget-tokens", self.budget_tokens),
            ("--plan", self.plan_path),
        ]
        return shlex.join(["quiver", "audit", *(str(part) for pair in pairs if pair[1] is not None for part in pair)])


def check_files(options: AuditOptions) -> None:
    """Raise InvalidInput for outputs that cannot be written or that overwrite another file of the same audit.

    Before anything is paid for, and not when there is a verdict to write.
    """
    named = {"--plan": options.plan_path, "--profile": options.profile_path, "--transcript": options.transcript}
    if options.endpoint is not None:
        named["the journal"] = options.journal_path
    for option, path in options.outputs.items():
        check_writable(path, option)
    # A plan that is there is only read, from wherever it comes.
    if options.plan_path is not None and not options.plan_path.exists():
        check_writable(options.plan_path, "--plan")
    taken: dict[str, str] = {}
    for option, place in {**named, **options.outputs}.items():
        if place is not None and (other := taken.setdefault(os.path.realpath(place), option)) != option:
            raise InvalidInput(f"{place} is the file of {other} too", option)


def read_api_key(options: AuditOptions, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the API key, None when no variable was named; raises InvalidInput, never with the key."""
    return read_key(options.api_key_env, "--api-key-env", environment)


def read_reference_key(options: AuditOptions, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the API key of the reference server, None when no variable was named; raises InvalidInput."""
    return read_key(options.reference_key_env, "--reference-key-env", environment)


def read_key(name: str | None, option: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return what a variable that an option names holds, None for no name; raises InvalidInput, never with the key."""
    if name is None:
        return None
    key = environment.get(name, "").strip()
    if not key:
        raise InvalidInput(f"the environment variable {name} is not set", option)
    if not key.isascii() or not key.isprintable():
        raise InvalidInput(f"what is in {name} cannot be an API key", option)
    return key


def read_profile(options: AuditOptions) -> ToleranceProfile | None:
    """Return the tolerance profile of a file, None when none is named; raises InvalidInput, Unavailable."""
    if options.profile_path is None:
        return None
    return decode_file(options.profile_path, MAX_PROFILE_BYTES, ToleranceProfile.decode)


def resolve_plan(options: AuditOptions) -> ProbingPlan:
    """Return the plan: of the plan file, which is written first when there is none, else a fresh one.

    Raises InvalidInput when the file is malformed or contradicts another option, Unavailable when it cannot be read.
    """
    fresh = ProbingPlan(
        seed=draw_seed(),
        claim=options.claim or Claim.WEIGHTS,
        one_over_alpha=1_000_000 if options.alpha is None else parse_alpha(options.alpha),
        requests=options.max_requests or DEFAULT_REQUESTS,
        siblings=options.siblings,
        **({} if options.writes_prompts else {"generator": GENERATOR_ID, "strata": STRATA}),
    )
    if options.plan_path is None:
        return fresh
    if not options.plan_path.exists():
        write_file(options.plan_path, fresh.encode())
        return fresh
    plan = decode_file(options.plan_path, MAX_PLAN_BYTES, parse_plan)
    check_agreement(options, plan)
    return plan


def check_agreement(options: AuditOptions, plan: ProbingPlan, *, allows_requests: bool = False) -> None:
    """Raise InvalidInput when an option contradicts a plan that is fixed."""
    alpha = None if options.alpha is None else parse_alpha(options.alpha)
    requests = None if allows_requests else options.max_requests
    for name, wanted, fixed in (
        ("--claim", options.claim, plan.claim),
        ("--alpha", alpha, plan.one_over_alpha),
        ("--max-requests", requests, plan.requests),
        ("--sibling", options.siblings or None, plan.siblings),
    ):
        if wanted is not None and wanted != fixed:
            said = ", ".join(fixed) or "none" if isinstance(fixed, tuple) else fixed
            raise InvalidInput(f"the plan says {said}: leave the option out, or make another plan", name)


def extend_plan(options: AuditOptions, plan: ProbingPlan) -> ProbingPlan:
    """Return the plan of an audit that goes on, with more requests if that is asked for; raises InvalidInput."""
    if options.plan_path is not None and decode_file(options.plan_path, MAX_PLAN_BYTES, parse_plan) != plan:
        raise InvalidInput("the journal was written under another plan", "--plan")
    check_agreement(options, plan, allows_requests=options.plan_path is None)
    return plan if options.max_requests is None else replace(plan, requests=options.max_requests)

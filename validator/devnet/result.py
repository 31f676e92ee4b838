"""What a devnet came to, and whether that is what it must come to."""

from dataclasses import asdict, dataclass, field
from typing import Any

from challenges.verdict import Verdict
from validator.devnet.layout import ProviderSpec

MAX_SECONDS = 300
MAX_MEMORY_BYTES = 8 * 1024**3


@dataclass(slots=True, kw_only=True)
class ProviderResult:
    """One provider at the end; `trust_by_epoch` holds (epoch, trust)."""

    spec: ProviderSpec
    address: str
    trust_by_epoch: list[tuple[int, int]] = field(default_factory=list)
    uptime_ppm: int = 0
    accuracy_ppm: int = 0
    flags: list[str] = field(default_factory=list)
    stake_before_wei: int = 0
    stake_after_wei: int = 0
    slash_cap_bps: int = 0

    @property
    def trust(self) -> int:
        """The last trust score, 0 before the first."""
        return self.trust_by_epoch[-1][1] if self.trust_by_epoch else 0

    @property
    def slashed_wei(self) -> int:
        """What the provider lost."""
        return self.stake_before_wei - self.stake_after_wei


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashResult:
    """One certified slash, with the witness's e-value and what a stranger found."""

    provider: str
    rule: str
    case_index: int
    last_epoch: int
    log10_e_milli: int
    threshold: int
    probes: int
    missing_probes: int
    signers: int
    evidence_file: str
    is_verified_by_stranger: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeResult:
    """One challenge: what was claimed of whom, and how it ended. `consumer_change_wei` is gain or loss."""

    name: str
    provider: str
    challenge_id: str
    verdict: str
    e_values: tuple[str, ...]
    consumer_change_wei: int


@dataclass(slots=True, kw_only=True)
class DevnetResult:
    """Everything that the end of a devnet reports."""

    network: str
    chain_id: int
    epochs: int
    seconds: int
    peak_memory_bytes: int
    providers: list[ProviderResult]
    slashes: list[SlashResult]
    challenges: list[ChallengeResult]
    burned_wei: int
    is_supply_conserved: bool
    is_feed_verified: bool
    judge: str
    commands: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the document for machines; wei as decimal strings."""
        checks = check_result(self)
        document = asdict(self)
        document["providers"] = [_provider_json(item) for item in self.providers]
        document["challenges"] = [
            {**asdict(item), "consumer_change_wei": str(item.consumer_change_wei)} for item in self.challenges
        ]
        document["burned_wei"] = str(self.burned_wei)
        document["checks"] = [asdict(check) for check in checks]
        document["passed"] = all(check.passed for check in checks)
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must hold at the end."""

    name: str
    passed: bool
    detail: str


def check_result(result: DevnetResult) -> list[Check]:
    """Return every condition of a good end, held or not."""
    honest = [item for item in result.providers if item.spec.is_honest]
    others = [item for item in result.providers if not item.spec.is_honest]
    liars = [item for item in others if item.spec.is_liar]
    weak = [item for item in others if not item.spec.is_liar]
    proven = {item.provider for item in result.slashes if item.is_verified_by_stranger}
    lowest = min((item.trust for item in honest), default=0)
    highest = max((item.trust for item in others), default=1000)
    verdicts = {item.name: item.verdict for item in result.challenges}
    wrong = next((item for item in result.challenges if item.name == "wrong"), None)
    return [
        _check("honest providers are not slashed", all(item.slashed_wei == 0 for item in honest), _losses(honest)),
        _check("honest providers score highest", lowest > highest, f"lowest honest {lowest}, highest other {highest}"),
        *(_check(f"{item.spec.name} is proven and slashed within its tier", _is_slashed(item, proven), _losses([item]))
          for item in liars),
        *(_check(f"{item.spec.name} scores lower and is not slashed",
                 item.slashed_wei == 0 and item.trust < lowest, f"trust {item.trust}, {_losses([item])}")
          for item in weak),
        _check("the right challenge is upheld", verdicts.get("right") == Verdict.UPHELD, str(verdicts.get("right"))),
        _check("the wrong challenge loses its bond",
               wrong is not None and wrong.verdict == Verdict.REJECTED and wrong.consumer_change_wei < 0,
               str(verdicts.get("wrong"))),
        _check("a feed item verifies offline in another process", result.is_feed_verified, "quiver feed verify"),
        _check("balances plus burned are what was issued", result.is_supply_conserved, f"burned {result.burned_wei}"),
    ]  # fmt: skip


def find_limits_passed(result: DevnetResult) -> list[str]:
    """Return a sentence for each resource limit that the run went over; a slow machine is not a wrong result."""
    passed = []
    if result.seconds > MAX_SECONDS:
        passed.append(f"took {result.seconds} s, more than {MAX_SECONDS} s")
    if result.peak_memory_bytes > MAX_MEMORY_BYTES:
        passed.append(f"used {result.peak_memory_bytes / 1024**3:.1f} GiB, more than {MAX_MEMORY_BYTES // 1024**3} GiB")
    return passed


def _is_slashed(item: ProviderResult, proven: set[str]) -> bool:
    limit = item.stake_before_wei * item.slash_cap_bps // 10_000
    return item.address in proven and 0 < item.slashed_wei <= limit


def _losses(items: list[ProviderResult]) -> str:
    return ", ".join(f"{item.spec.name} lost {item.slashed_wei / 10**18:,.0f} QUIV" for item in items)


def _check(name: str, passed: bool, detail: str) -> Check:
    return Check(name=name, passed=passed, detail=detail)


def _provider_json(item: ProviderResult) -> dict[str, Any]:
    return {
        "name": item.spec.name,
        "address": item.address,
        "cheats": list(item.spec.cheats),
        "dtype": item.spec.dtype,
        "trust": item.trust,
        "trust_by_epoch": [list(pair) for pair in item.trust_by_epoch],
        "accuracy_ppm": item.accuracy_ppm,
        "uptime_ppm": item.uptime_ppm,
        "flags": item.flags,
        "stake_before_wei": str(item.stake_before_wei),
        "stake_after_wei": str(item.stake_after_wei),
        "slashed_wei": str(item.slashed_wei),
        "slash_cap_bps": item.slash_cap_bps,
    }

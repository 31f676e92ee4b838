"""The result of a devnet that went well, for tests that spoil it."""

from typing import Any

import pytest

from validator.devnet.layout import PROVIDERS
from validator.devnet.result import ChallengeResult, DevnetResult, ProviderResult, SlashResult

WEI = 10**18
CAPS_BPS = {250_000: 1500, 50_000: 1000, 10_000: 500}
SLASH_BPS = 1400


def build_provider(name: str) -> ProviderResult:
    spec = next(item for item in PROVIDERS if item.name == name)
    stake_wei = spec.stake_quiv * WEI
    cap_bps = CAPS_BPS[spec.stake_quiv]
    slashed_wei = stake_wei * min(cap_bps, SLASH_BPS) // 10_000 if spec.is_liar else 0
    trust = 350 if spec.is_liar else 900 if spec.is_honest else 780
    return ProviderResult(
        spec=spec,
        address=f"0x{name.encode().hex():0<40.40}",
        trust_by_epoch=[(1, 500), (6, trust)],
        uptime_ppm=990_000,
        accuracy_ppm=980_000,
        stake_before_wei=stake_wei,
        stake_after_wei=stake_wei - slashed_wei,
        slash_cap_bps=cap_bps,
    )


def build_slash(provider: ProviderResult) -> SlashResult:
    return SlashResult(
        provider=provider.address,
        rule="false-capability",
        case_index=1,
        last_epoch=4,
        log10_e_milli=7123,
        threshold=6_000_000,
        probes=32,
        missing_probes=1,
        signers=4,
        evidence_file=f"evidence-{provider.spec.name}.json",
        is_verified_by_stranger=True,
    )


def build_result() -> DevnetResult:
    providers = [build_provider(spec.name) for spec in PROVIDERS]
    by_name = {item.spec.name: item for item in providers}

    def build_challenge(name: str, target: str, verdict: str, change: int) -> ChallengeResult:
        return ChallengeResult(
            name=name,
            provider=by_name[target].address,
            challenge_id="0x" + "11" * 32,
            verdict=verdict,
            e_values=("10^9.0", "10^8.1", "abstained"),
            consumer_change_wei=change * WEI,
        )

    return DevnetResult(
        network="0x" + "22" * 32,
        chain_id=77,
        epochs=6,
        seconds=200,
        peak_memory_bytes=4 * 1024**3,
        providers=providers,
        slashes=[build_slash(item) for item in providers if item.spec.is_liar],
        challenges=[
            build_challenge("right", "int4", "upheld", 2),
            build_challenge("wrong", "honest-bf16", "rejected", -14),
        ],
        burned_wei=sum(item.slashed_wei for item in providers),
        is_supply_conserved=True,
        is_feed_verified=True,
        judge="agrees with the key in 51 of 100: weight 0",
        commands={"feed": "quiver feed verify feed-item.json", "note": "# run with `--dir DIRECTORY`"},
    )


@pytest.fixture
def good() -> Any:
    return build_result()

"""A small profile and the plan that follows from it, for tests of the evidence library."""

import pytest

from scoring.evidence.plan import Plan, build_plan
from scoring.evidence.profile import Cell, HoldOut, Measurement, ToleranceProfile
from scoring.evidence.statistics import STATISTIC_IDS
from scoring.probes import GENERATOR_ID, STRATA

MU_PPM = dict(zip(STATISTIC_IDS, (60_000, 70_000, 30_000, 90_000, 110_000), strict=True))


def build_cell(name: str, mu_ppm: dict[str, int], requests: int = 1000) -> Cell:
    """Return a cell whose mu is as given in the first stratum and half of it in the others."""
    measurements = tuple(
        Measurement(
            stratum=stratum,
            statistic=statistic,
            n=requests // len(STRATA),
            mean_ppm=mu // 10,
            variance_ppm=mu // 20,
            max_ppm=500_000,
            mu_ppm=mu if stratum == STRATA[0] else mu // 2,
        )
        for statistic, mu in mu_ppm.items()
        for stratum in STRATA
    )
    return Cell(
        name=name,
        role="main",
        verifier_dtype="bf16",
        verifier_batch=32,
        provider_dtype=name,
        provider_batch=32,
        threads=1,
        attention="sdpa",
        device="cpu",
        torch_version="2.13.0",
        transformers_version="5.23.0",
        python_version="3.11.9",
        processor="x86_64",
        requests=requests,
        seconds=60,
        measurements=measurements,
        hold_out=HoldOut(
            n=300,
            max_product_milli_log10=100,
            max_case_milli_log10=0,
            max_challenge_milli_log10=400,
            max_seeded_milli_log10=0,
            max_text_milli_log10=0,
            max_mean_over_mu_ppm=300_000,
        ),
    )


@pytest.fixture
def profile() -> ToleranceProfile:
    fp32 = {statistic: mu - 10_000 for statistic, mu in MU_PPM.items()}
    return ToleranceProfile(
        model="bundled",
        manifest_digest=b"\x11" * 32,
        sampler="gumbel-philox-v1",
        generator=GENERATOR_ID,
        engine="transformers",
        max_tokens=48,
        temperature_ppm=1_000_000,
        top_p_ppm=1_000_000,
        strata=STRATA,
        one_over_delta=10_000_000,
        development=True,
        cells=(build_cell("bf16", MU_PPM), build_cell("fp32", fp32)),
    )


@pytest.fixture
def plan(profile: ToleranceProfile) -> Plan:
    return build_plan(profile, case_length_epochs=6)

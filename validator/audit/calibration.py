"""The bounds that an audit bets with: from which profile, and what a proof from them is good for on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from models.passes import Passes
from models.profiles import find_profile
from models.tolerances import describe_processor
from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import CHANNEL_STATISTIC_IDS, list_text_ids
from scoring.evidence.profile import CPU, MIN_REQUESTS, ToleranceProfile
from scoring.evidence.tolerance import Tolerance, build_bound
from scoring.records import PPM

UNCALIBRATED_MU_PPM = 300_000
"""Bounds for a model without a profile: wide enough for an alarm, never for a proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """What runs the answers again, as the cells of a profile name it."""

    engine: str
    device: str
    processor: str

    @classmethod
    def describe(cls, passes: Passes) -> Self:
        """Return what these passes run on."""
        return cls(engine=passes.engine, device=passes.device, processor=describe_processor())


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A profile (None: there is none for the model) as this verifier may use it."""

    profile: ToleranceProfile | None
    verifier: Verifier

    def find_bounds(self, siblings: Sequence[str] = ()) -> dict[str, Tolerance]:
        """Return the tolerance of each statistic that has a bound; `siblings` are the other models in play."""
        own = list_text_ids(siblings)
        if self.profile is None:
            return dict.fromkeys((*CHANNEL_STATISTIC_IDS, *own), build_bound(UNCALIBRATED_MU_PPM))
        # A bound of 1 is no bound, and what is not run is not bet on.
        return {
            name: tolerance
            for name, tolerance in self.profile.compute_tolerances().items()
            if (name in CHANNEL_STATISTIC_IDS or name in own) and tolerance[-1].mu_ppm < PPM
        }

    @property
    def is_own(self) -> bool:
        """Return whether the bounds were measured on a verifier like this one."""
        profile, verifier = self.profile, self.verifier
        return profile is not None and profile.covers_verifier(verifier.device, verifier.processor)

    @property
    def slash_grade(self) -> frozenset[str]:
        """Return the statistics that stake may be taken for: enough honest requests, on a verifier like this one."""
        return self.profile.list_slash_grade() if self.profile is not None and self.is_own else frozenset()

    def describe(self) -> str:
        """Return in words what the bounds rest on, and what they are not good for."""
        if self.profile is None:
            return "none: nothing can be proven of this model, only suspected"
        cells = ", ".join(f"{cell.name} ({cell.describe_requests()})" for cell in self.profile.cells)
        if not self.is_own:
            own = self.verifier.processor if self.verifier.device == CPU else self.verifier.device
            measured = ", ".join(sorted({cell.describe_device() for cell in self.profile.cells}))
            return f"good for showing and not for taking stake, measured on {measured} and not on {own}: {cells}"
        if self.profile.development and not self.slash_grade:
            return f"DEVELOPMENT, good for showing and not for taking stake: {cells}; asked for are {MIN_REQUESTS} each"
        return cells


def choose_calibration(given: ToleranceProfile | None, manifest_digest: bytes, verifier: Verifier) -> Calibration:
    """Return the calibration from a given profile, or from the shipped one for the model and engine.

    Raises InvalidInput when the given profile is of another model or engine.
    """
    if given is None:
        return Calibration(profile=find_profile(manifest_digest, verifier.engine), verifier=verifier)
    if given.manifest_digest != manifest_digest:
        raise InvalidInput(f"is of {given.model}, another model than the claimed one", "--profile")
    if given.engine != verifier.engine:
        raise InvalidInput(
            f"was made with {given.engine} as the reference, which is {verifier.engine} here", "--profile"
        )
    return Calibration(profile=given, verifier=verifier)

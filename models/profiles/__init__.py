"""Tolerance profiles that ship with the project, one canonical JSON file each, made by `quiver model calibrate`."""

from importlib import resources

from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import TEXT_ANY_ID
from scoring.evidence.profile import ToleranceProfile


def load_profile(name: str = "bundled") -> ToleranceProfile:
    """Return a shipped profile by name; raises InvalidInput when there is none of that name."""
    file = resources.files("models.profiles").joinpath(f"{name}.json")
    if not name.isidentifier() or not file.is_file():
        raise InvalidInput(
            f"no tolerance profile is shipped for {name!r}: make one with `quiver model calibrate`", "profile"
        )
    return ToleranceProfile.decode(file.read_bytes())


def find_profile(manifest_digest: bytes) -> ToleranceProfile | None:
    """Return the shipped profile of a model that has the statistics of an audit, None when there is none."""
    for file in sorted(resources.files("models.profiles").iterdir(), key=lambda item: item.name):
        if file.name.endswith(".json"):
            profile = ToleranceProfile.decode(file.read_bytes())
            measured = {item.statistic for item in profile.cells[0].measurements}
            if profile.manifest_digest == manifest_digest and TEXT_ANY_ID in measured:
                return profile
    return None

"""Tolerance profiles that ship with the project, one canonical JSON file each, made by `quiver model calibrate`."""

from importlib import resources

from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import CHANNEL_STATISTIC_IDS, TEXT, get_channel
from scoring.evidence.profile import ENGINE_TRANSFORMERS, ToleranceProfile


def load_profile(name: str = "bundled") -> ToleranceProfile:
    """Return a shipped profile by name; raises InvalidInput when there is none of that name."""
    file = resources.files("models.profiles").joinpath(f"{name}.json")
    if not name.isidentifier() or not file.is_file():
        raise InvalidInput(
            f"no tolerance profile is shipped for {name!r}: make one with `quiver model calibrate`", "profile"
        )
    return ToleranceProfile.decode(file.read_bytes())


def find_profile(manifest_digest: bytes, engine: str = ENGINE_TRANSFORMERS) -> ToleranceProfile | None:
    """Return the shipped profile of a model on an engine that has an audit's statistics, None when there is none."""
    audited = {name for name in CHANNEL_STATISTIC_IDS if get_channel(name) == TEXT}
    for file in sorted(resources.files("models.profiles").iterdir(), key=lambda item: item.name):
        if file.name.endswith(".json"):
            profile = ToleranceProfile.decode(file.read_bytes())
            measured = {item.statistic for item in profile.cells[0].measurements}
            if (profile.manifest_digest, profile.engine) == (manifest_digest, engine) and measured & audited:
                return profile
    return None

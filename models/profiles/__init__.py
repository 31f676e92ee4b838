"""Tolerance profiles that ship with the project, one canonical JSON file each, made by `quiver model calibrate`."""

from importlib import resources

from scoring.errors import InvalidInput
from scoring.evidence.profile import ToleranceProfile


def load_profile(name: str = "bundled") -> ToleranceProfile:
    """Return a shipped profile by name; raises InvalidInput when there is none of that name."""
    file = resources.files("models.profiles").joinpath(f"{name}.json")
    if not name.isidentifier() or not file.is_file():
        raise InvalidInput(
            f"no tolerance profile is shipped for {name!r}: make one with `quiver model calibrate`", "profile"
        )
    return ToleranceProfile.decode(file.read_bytes())

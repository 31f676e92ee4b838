"""Is every package of ours really ours? The names `scoring`, `validator`, ... exist in other distributions too.

pip lets two distributions write the same folder without a word, and a folder earlier on the path hides ours. Each would
end in an obscure error, or in somebody else's code running under our name. So nothing of ours is imported here, and
nothing that is looked at is executed: a package must lie beside `quiver_oracle`, and the files that our installation
wrote must still be the ones it wrote.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "quiver-oracle"
LIBRARY_PACKAGES = ("scoring", "challenges")
ALL_PACKAGES = (*LIBRARY_PACKAGES, "models", "ledger", "validator")
_HOME = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Collision:
    """A package that is not ours: its name, where it is (None: nowhere, or not whole), and who owns it if known."""

    package: str
    path: Path | None
    owners: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """One sentence: what is in the way, where, and what to do."""
        if self.path is None:
            return (
                f"the package `{self.package}` of {DISTRIBUTION} is missing or not whole: install {DISTRIBUTION} again"
            )
        owned = f", of {' and '.join(self.owners)}" if self.owners else ""
        return (
            f"another distribution named `{self.package}` is installed ({self.path}{owned}): "
            "use pipx or a virtual environment"
        )


def find_collision(packages: Sequence[str] = ALL_PACKAGES) -> Collision | None:
    """Return the first of the packages that is not ours, or None when all is well."""
    for package in packages:
        path = _find_package(package)
        if path is None:
            return Collision(package=package, path=None)
        if path != _HOME / package:
            return Collision(package=package, path=path, owners=_find_owners(package))
    for path in _overwritten_files(packages):
        package = path.relative_to(_HOME).parts[0]
        found = path if path.exists() else None
        return Collision(package=package, path=found, owners=_find_owners(package))
    return None


def _find_package(package: str) -> Path | None:
    """Return the folder or file that `import package` would read, without importing it."""
    try:
        spec = find_spec(package)
    except ValueError:  # already imported by something that left no spec
        return Path("unknown")
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin or "unknown").resolve()
    if spec.origin is None:  # a folder without __init__.py: somebody's namespace, or what was left of ours
        folder = Path(next(iter(spec.submodule_search_locations), "unknown")).resolve()
        return None if folder == _HOME / package else folder
    return Path(spec.origin).resolve().parent


def _overwritten_files(packages: Sequence[str]) -> Iterator[Path]:
    """Yield our Python files that are not what the installation wrote; an editable installation lists none."""
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:  # run from a source folder: there was no installation
        return
    for file in distribution.files or ():
        if file.parts[0] not in packages or file.suffix != ".py" or file.hash is None:
            continue
        path = Path(str(distribution.locate_file(file))).resolve()
        # An installation elsewhere (we run from a source folder) says nothing about these files.
        if path == _HOME.joinpath(*file.parts) and not _is_as_written(path, file.hash):
            yield path


def _is_as_written(path: Path, recorded: metadata.FileHash) -> bool:
    try:
        digest = hashlib.new(recorded.mode, path.read_bytes()).digest()
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == recorded.value


def _find_owners(package: str) -> tuple[str, ...]:
    # Reads every installed distribution's file list: slow, so only once something is wrong.
    return tuple(sorted(set(metadata.packages_distributions().get(package, ())) - {DISTRIBUTION}))

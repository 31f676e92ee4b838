"""Other models that a provider may serve instead of the claimed one, as alternatives: named by whoever suspects them.

One that reads the claimed model's tokens is run on the very answer; of any other the text is (`models.foreign_text`).
"""

from collections.abc import Sequence

from models.alternatives import KIND_SIBLING, Alternative
from models.load import LoadedModel, load_outline
from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import MAX_SIBLINGS, build_sibling_name


def find_siblings(claimed: LoadedModel, names: Sequence[str]) -> list[Alternative]:
    """Return other models by the names that `load_model` takes, as alternatives whose `id` follows from the manifest.

    Raises InvalidInput for the claimed model itself, for one named twice or too many, and what `load_outline` raises.
    """
    if len(names) > MAX_SIBLINGS:
        raise InvalidInput(f"at most {MAX_SIBLINGS}: each is one more pass over every answer", "sibling")
    found: dict[str, Alternative] = {}
    for name in names:
        # With its weights: the digest of a model that is not all here would change once they are fetched.
        manifest = load_outline(name, needs_weights=True).manifest
        sibling = build_sibling_name(manifest.compute_digest())
        if manifest.compute_digest() == claimed.manifest.compute_digest():
            raise InvalidInput(f"{name} is the claimed model itself", "sibling")
        if sibling in found:
            raise InvalidInput(f"{name} is named twice", "sibling")
        parameters = (("model", name), ("label", manifest.name))
        found[sibling] = Alternative(id=sibling, kind=KIND_SIBLING, parameters=parameters)
    return list(found.values())


def get_labels(alternatives: Sequence[Alternative]) -> dict[str, str]:
    """Return the names of the models among some alternatives, by id."""
    siblings = [item for item in alternatives if item.kind == KIND_SIBLING]
    return {item.id: str(dict(item.parameters)["label"]) for item in siblings}

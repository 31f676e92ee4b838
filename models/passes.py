"""What runs claimed answers again for an audit: the claimed weights in this process, or a server that has them.

Both say the same of an answer, in the columns of `models.requests.TokenStatistics`; a server can run neither other
weights nor the claimed ones in other numerics, and shows no hidden states.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from models.activation_format import ActivationProof
from models.alternatives import Alternative, AlternativeColumns, SkippedAlternative
from models.load import LoadedModel
from models.requests import ChatMessage, ReferenceRequest
from models.retokenise import Retokenised
from models.token_bytes import TokenBytes


class Passes(Protocol):
    """What runs claimed answers again. `loaded` has tokenizer and manifest, and weights where they are here."""

    engine: str
    loaded: LoadedModel
    alternatives: list[Alternative]

    @property
    def device(self) -> str:
        """Where the claimed model runs, as the cells of a profile name it: `cpu`, `cuda`, or `server`."""
        ...

    @property
    def cell(self) -> str:
        """Where the claimed model runs, in words."""
        ...

    def check(self, request: ReferenceRequest) -> None:
        """Raise InvalidInput when a request names tokens or a length that the model does not have."""
        ...

    def score(self, requests: Sequence[ReferenceRequest]) -> list[Any]:
        """Return the columns of each claimed answer."""
        ...

    def score_again(self, requests: Sequence[ReferenceRequest]) -> list[Any]:
        """Return the same for answers that are looked at under many samplings: what they share is remembered."""
        ...

    def run_alternative(
        self, alternative: Alternative, requests: Sequence[ReferenceRequest], messages: Sequence[Sequence[ChatMessage]]
    ) -> list[AlternativeColumns | SkippedAlternative]:
        """Return the columns of each answer under one of `alternatives`."""
        ...

    def run_second(self, requests: Sequence[ReferenceRequest]) -> list[AlternativeColumns | None]:
        """Return the columns of seeded requests in other numerics, None for the others or where there are none."""
        ...

    def measure_proofs(self, request: ReferenceRequest, proofs: Sequence[ActivationProof]) -> float | None:
        """Return the error of activation proofs in [0, 1]; None where they cannot be looked at."""
        ...

    def find_sampled_tokens(
        self, requests: Sequence[ReferenceRequest], found: Sequence[Retokenised], tokens: TokenBytes
    ) -> list[Retokenised]:
        """Return the ids of seeded answers that came as text, where the seed says more than the text."""
        ...

    def find_sure_answer(self, messages: Sequence[ChatMessage], max_tokens: int) -> str:
        """Return the beginning of the answer at temperature 0 that is sure."""
        ...

    def close(self) -> None:
        """Let go of what was opened."""
        ...


def open_passes(name: str, reference: str = "auto", api_key: str | None = None, siblings: Sequence[str] = ()) -> Passes:
    """Return the passes of a reference: `auto`, `cpu`, `cuda`, or the URL of a vLLM server.

    `siblings` are other models by name, which run here in any case. Raises what loading and connecting raise;
    InvalidInput for another reference.
    """
    if not is_server(reference):
        from models.local_passes import LocalPasses

        return LocalPasses(name, device=reference, siblings=siblings)
    from models.reference_server import ReferenceServer
    from models.server_passes import ServerPasses

    server = ReferenceServer.connect(reference, api_key=api_key)
    try:
        return ServerPasses(name, server, reference, siblings=siblings)
    except BaseException:
        server.close()
        raise


def is_server(reference: str) -> bool:
    """Return whether a reference is the URL of a server."""
    return reference.startswith(("http://", "https://"))

"""The noise that a claimed answer was drawn with, whatever the sampler: one way to draw again and to measure claims."""

from models.requests import SAMPLER_GUMBEL, ReferenceRequest
from models.sampler import compute_kept_tokens, filter_logits, find_winner
from models.samplers_seeded import Noise, Row, open_noise
from models.token_statistics import compute_seeded_margin, has_noise


def open_claimed_noise(request: ReferenceRequest) -> Noise | None:
    """Return the noise of a request, to be kept for all its positions in ascending order; None when it has none."""
    if not has_noise(request):
        return None
    if request.temperature == 0.0 or request.sampler == SAMPLER_GUMBEL:
        return _GumbelNoise(request)
    return open_noise(request)


class _GumbelNoise:
    def __init__(self, request: ReferenceRequest) -> None:
        self._request = request

    def draw(self, logits: Row, position: int) -> int:
        request = self._request
        kept = filter_logits(logits, request.temperature, request.top_p, request.top_k)
        return find_winner(kept, request.seed or 0, position, request.temperature).token_id

    def compute_margin(self, logits: Row, token: int, position: int) -> tuple[float, float]:
        request = self._request
        is_filtered = request.temperature > 0.0 and (request.top_p < 1.0 or request.top_k > 0)
        kept = compute_kept_tokens(logits, request.temperature, request.top_p, request.top_k) if is_filtered else None
        return compute_seeded_margin(logits, token, request, position, kept)

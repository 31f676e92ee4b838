"""What the writer's own weights say about a text: the attack of a provider who serves the very model that wrote it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.load import LoadedModel, encode_text
from models.probe_text import build_writer_prompt
from models.reference import score_batch
from models.requests import ReferenceRequest
from scoring.probe_outlines import TurnOutline

PLAIN_TURN = TurnOutline(
    role="user",
    examples=(),
    opening="",
    token_limit=1,
    is_one_line=True,
    dropped_marks="",
    is_lower_case=False,
    writer_seeds=(),
)


def compute_likelihood_features(loaded: LoadedModel, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return six numbers for each text as a user's first message: means, spread and extremes of its surprise, in nats.

    The examples that the writer saw are not known to the attacker, so the text is scored without them.
    """
    prompt_ids = build_writer_prompt(loaded, PLAIN_TURN, ())
    items = [
        ReferenceRequest(prompt_ids=prompt_ids, output_ids=tuple(encode_text(loaded, text)) or (0,)) for text in texts
    ]
    rows: list[list[float]] = []
    for found in score_batch(loaded, items):
        surprise = -np.array(found.raw_logprob)
        excess = surprise - np.array(found.entropy)
        late = surprise[2:] if len(surprise) > 2 else surprise
        ranks = np.log1p(np.array(found.rank))
        rows.append(
            [
                float(surprise.mean()),
                float(late.mean()),
                float(surprise.std()),
                float(surprise.max()),
                float(excess.mean()),
                float(ranks.mean()),
            ]
        )
    return np.array(rows)

"""The devnet's consumer: asks two providers for receipted answers and challenges both, one rightly and one wrongly."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from challenges.filing import MAX_RECEIPTS
from ledger.embedded.sync_client import SyncLedgerClient
from scoring import ecdsa
from validator.consumer import ReceiptedAnswer, ask_many, build_answers_dossier, fetch_offer
from validator.devnet.network import Network
from validator.filing import file_challenge

RIGHT, WRONG = "right", "wrong"
TARGETS = {RIGHT: "int4", WRONG: "honest-bf16"}
QUESTIONS = (
    "What should I look at when I buy a used bicycle?",
    "Write three sentences about a lighthouse keeper who is afraid of the dark.",
    "How do I get candle wax out of a tablecloth?",
    "Explain to a ten-year-old why the sea is salty.",
    "Give me ideas for a rainy Sunday with two small children.",
    "My neighbour's dog barks all night. Draft a friendly note.",
    "What is the difference between a crocodile and an alligator?",
    "Suggest a name for a small bakery by a canal, and say why.",
)


@dataclass(slots=True)
class Consumer:
    """One account that files both challenges; `challenge_ids` by "right" and "wrong"."""

    network: Network
    challenge_ids: dict[str, bytes] = field(default_factory=dict)

    @property
    def address(self) -> bytes:
        """The consumer's account."""
        return ecdsa.address_of(self.network.cast.consumer_key)

    def file_both(self, say: Callable[[str], None]) -> None:
        """Collect receipts from both providers and file; raises OracleError."""
        for name, target in TARGETS.items():
            dossier = build_answers_dossier(self._collect(target))
            with SyncLedgerClient(self.network.ledger_url, self.network.genesis.domain) as ledger:
                self.challenge_ids[name] = file_challenge(ledger, self.network.cast.consumer_key, dossier)
            say(f"the consumer challenges {target} with {len(dossier.entries)} receipts")

    def _collect(self, target: str) -> list[ReceiptedAnswer]:
        url = self.network.provider_urls[target]
        offer, domain = fetch_offer(url), self.network.genesis.domain
        requests = [self._build_request(offer.offer.model, question) for question in QUESTIONS[:MAX_RECEIPTS]]
        return ask_many(url, offer, domain, requests)

    def _build_request(self, model: str, question: str) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": self.network.genesis.plan.max_tokens,
            "seed": secrets.randbelow(2**53),
            "return_token_ids": True,
            "quiver_nonce": "0x" + secrets.token_hex(32),
            "quiver_consumer": "0x" + self.address.hex(),
        }

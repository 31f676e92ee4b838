"""A whole network in memory for the tests of whoever integrates the feed: deterministic signers, no I/O, no value.

The keys are derived from public strings. They sign for mock networks only: chain id 31337 and a made-up contract.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import httpx

from scoring import bls
from scoring.certificate import build_certificate, compute_validator_set_digest
from scoring.eip712 import Domain, compute_signing_root
from scoring.errors import InvalidInput
from scoring.feed import FeedProof, ValidatorSetFile, build_feed, build_feed_proofs
from scoring.feed_index import build_feed_index
from scoring.hashing import tagged_digest
from scoring.records import PPM, ZERO_DIGEST, Certificate, Checkpoint, FeedItem, ValidatorEntry, ValidatorSet

MOCK_CHAIN_ID = 31_337
MOCK_STAKE_WEI = 10_000 * 10**18


@dataclass(frozen=True, slots=True, kw_only=True)
class MockNetwork:
    """A network whose secret keys everybody knows; `secret_keys` are in seat order."""

    domain: Domain
    validator_set: ValidatorSet
    secret_keys: tuple[bytes, ...]

    @property
    def validator_set_file(self) -> ValidatorSetFile:
        """What a reader of this network trusts."""
        return ValidatorSetFile(domain=self.domain, validator_set=self.validator_set)

    def certify(self, signing_root: bytes, seats: Collection[int] | None = None) -> Certificate:
        """Return the certificate of the seats (all by default); raises VerificationFailed without a quorum."""
        chosen = range(len(self.secret_keys)) if seats is None else seats
        signatures = {seat: bls.sign(self.secret_keys[seat], signing_root) for seat in chosen}
        return build_certificate(signing_root, self.validator_set, signatures)

    def publish(self, items: Sequence[FeedItem], seats: Collection[int] | None = None) -> tuple[FeedProof, ...]:
        """Return the one-file proofs of one epoch's items, certified by the seats, in the feed's order."""
        if not items:
            raise InvalidInput("a mock feed needs an item", "items")
        feed = build_feed(items)
        checkpoint = Checkpoint(
            epoch=feed.items[0].epoch,
            previous=self.validator_set.network,
            time_s=feed.items[0].time_s,
            beacon=tagged_digest("quiver-mock", b"beacon", feed.items[0].epoch.to_bytes(8, "big")),
            vrf_outputs=(),
            reveals_root=ZERO_DIGEST,
            feed_root=feed.root,
            case_root=ZERO_DIGEST,
            state_digest=ZERO_DIGEST,
            validator_set_digest=compute_validator_set_digest(self.validator_set),
            plan_digest=tagged_digest("quiver-mock", b"plan"),
        )
        certificate = self.certify(compute_signing_root(checkpoint, self.domain), seats)
        return build_feed_proofs(feed, checkpoint, certificate, self.domain, self.validator_set)


@lru_cache(maxsize=16)
def build_mock_network(stakes_wei: tuple[int, ...] = (MOCK_STAKE_WEI,) * 4, name: str = "mock") -> MockNetwork:
    """Return the network of that name with one seat for each stake: the same keys every time."""
    network = tagged_digest("quiver-mock", b"network", name.encode())
    secret_keys = tuple(
        bls.key_gen(tagged_digest("quiver-mock", b"key", name.encode(), seat.to_bytes(8, "big")))
        for seat in range(len(stakes_wei))
    )
    entries = tuple(
        ValidatorEntry(
            address=tagged_digest("quiver-mock", b"address", bls.sk_to_pk(secret_key))[-20:],
            public_key=bls.sk_to_pk(secret_key),
            transport_key=tagged_digest("quiver-mock", b"transport", bls.sk_to_pk(secret_key)),
            stake_wei=stake_wei,
        )
        for secret_key, stake_wei in zip(secret_keys, stakes_wei, strict=True)
    )
    return MockNetwork(
        domain=Domain(chain_id=MOCK_CHAIN_ID, verifying_contract=network[-20:]),
        validator_set=ValidatorSet(network=network, validators=entries),
        secret_keys=secret_keys,
    )


def build_mock_item(
    provider: bytes, *, epoch: int, time_s: int, trust: int = 900, flags: int = 0, model: str = "mock"
) -> FeedItem:
    """Return an item with that trust and plausible parts."""
    share_ppm = trust * 1000
    return FeedItem(
        provider=provider,
        offer_digest=tagged_digest("quiver-mock", b"offer", provider, model.encode()),
        manifest_digest=tagged_digest("quiver-mock", b"manifest", model.encode()),
        epoch=epoch,
        time_s=time_s,
        trust=trust,
        trust_low=max(0, trust - 20),
        trust_high=min(1000, trust + 20),
        accuracy_ppm=share_ppm,
        uptime_ppm=share_ppm,
        latency_ppm=share_ppm,
        throughput_ppm=share_ppm,
        rating_ppm=0,
        agreement_ppm=share_ppm,
        parts_present=0b101111,
        samples=1000,
        flags=flags,
        speed_multiplier_ppm=PPM,
        quality_multiplier_ppm=PPM,
        availability_ppm=share_ppm,
    )


class MockFeed:
    """A relay in memory: publish items, then read them with `FeedClient(url, ..., transport=feed.transport)`."""

    def __init__(self, network: MockNetwork) -> None:
        self.network = network
        self.files: dict[str, bytes] = {}

    def publish(self, items: Sequence[FeedItem], seats: Collection[int] | None = None) -> tuple[FeedProof, ...]:
        """Certify one epoch's items by the seats (all by default) and serve them as the latest."""
        proofs = self.network.publish(items, seats)
        index = build_feed_index(build_feed(items), items[0].epoch)
        for entry, proof in zip(index.entries, proofs, strict=True):
            self.files[f"/v1/feed/{index.epoch}/{entry.file}"] = proof.encode()
        self.files["/v1/feed/latest"] = index.encode()
        return proofs

    @property
    def transport(self) -> httpx.MockTransport:
        """The transport that answers from `files`; change them to try what a hostile relay would do."""
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        content = self.files.get(request.url.path)
        return httpx.Response(404) if content is None else httpx.Response(200, content=content)

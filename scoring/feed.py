"""The feed: one epoch's items under one certified root, and the one-file proof with which anybody checks an item.

A proof is verified against a validator set that the reader already trusts, never against one that it brings along.
Every refusal says in a sentence what is wrong; `docs/feed.md` lists the bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scoring import canonical
from scoring.canonical import Json
from scoring.certificate import compute_validator_set_digest, verify_certificate
from scoring.eip712 import Domain, compute_signing_root, compute_struct_hash, parse_hex
from scoring.errors import InvalidInput, VerificationFailed
from scoring.merkle import MAX_PROOF_LENGTH, compute_proofs, compute_root, verify_proof
from scoring.records import Certificate, Checkpoint, FeedItem, ValidatorSet

FEED_PROOF_KIND = "quiver-feed-proof-v1"
VALIDATOR_SET_KIND = "quiver-validator-set-v1"
MAX_FEED_PROOF_BYTES = 4 * 1024 * 1024
MAX_VALIDATOR_SET_BYTES = 4 * 1024 * 1024
MAX_CLOCK_SKEW_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One epoch's items in the order of (provider, offer digest), their leaves in the same order, and the root."""

    root: bytes
    items: tuple[FeedItem, ...]
    leaves: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorSetFile:
    """What a reader trusts: a network's domain and its validator set. Get it from somebody you trust."""

    domain: Domain
    validator_set: ValidatorSet

    def encode(self) -> bytes:
        """Return the canonical bytes of the file."""
        return canonical.encode(
            {
                "kind": VALIDATOR_SET_KIND,
                "domain": build_domain_json(self.domain),
                "validator_set": self.validator_set.to_json(),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedProof:
    """One feed item with everything that shows it, for a reader who trusts a validator set."""

    domain: Domain
    item: FeedItem
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    certificate: Certificate
    validator_set: ValidatorSet | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the JSON object; `validator_set` only when there is one."""
        value: dict[str, Json] = {
            "kind": FEED_PROOF_KIND,
            "domain": build_domain_json(self.domain),
            "item": self.item.to_json(),
            "proof": ["0x" + step.hex() for step in self.proof],
            "checkpoint": self.checkpoint.to_json(),
            "certificate": self.certificate.to_json(),
        }
        if self.validator_set is not None:
            value["validator_set"] = self.validator_set.to_json()
        return value

    def encode(self) -> bytes:
        """Return the canonical bytes of the file."""
        return canonical.encode(self.to_json())


def build_feed(items: Sequence[FeedItem]) -> Feed:
    """Return the feed of one epoch; raises InvalidInput when an offer comes twice or the items' epochs differ."""
    ordered = tuple(sorted(items, key=lambda item: (item.provider, item.offer_digest)))
    if len({(item.provider, item.offer_digest) for item in ordered}) != len(ordered):
        raise InvalidInput("an offer has two items", "items")
    if len({(item.epoch, item.time_s) for item in ordered}) > 1:
        raise InvalidInput("the items are of different epochs", "items")
    leaves = tuple(compute_struct_hash(item) for item in ordered)
    return Feed(root=compute_root(leaves), items=ordered, leaves=leaves)


def build_feed_proofs(
    feed: Feed,
    checkpoint: Checkpoint,
    certificate: Certificate,
    domain: Domain,
    validator_set: ValidatorSet | None = None,
) -> tuple[FeedProof, ...]:
    """Return the proof of every item, in the feed's order. Raises InvalidInput when the checkpoint has another root."""
    if feed.root != checkpoint.feed_root:
        raise InvalidInput("the checkpoint certifies another feed", "feed_root")
    paths = compute_proofs(feed.leaves, range(len(feed.leaves)))
    return tuple(
        FeedProof(
            domain=domain,
            item=item,
            proof=path,
            checkpoint=checkpoint,
            certificate=certificate,
            validator_set=validator_set,
        )
        for item, path in zip(feed.items, paths, strict=True)
    )


def build_feed_proof(
    feed: Feed,
    index: int,
    checkpoint: Checkpoint,
    certificate: Certificate,
    domain: Domain,
    validator_set: ValidatorSet | None = None,
) -> FeedProof:
    """Return the proof of one item, by its place in the feed. Raises InvalidInput."""
    if not 0 <= index < len(feed.items):
        raise InvalidInput(f"expected an index below {len(feed.items)}", "index")
    return build_feed_proofs(feed, checkpoint, certificate, domain, validator_set)[index]


def parse_feed_proof(data: bytes) -> FeedProof:
    """Parse the canonical bytes of a proof file; raises InvalidInput with the field's name."""
    value = _parse_file(
        data,
        MAX_FEED_PROOF_BYTES,
        FEED_PROOF_KIND,
        required=("domain", "item", "proof", "checkpoint", "certificate"),
        optional=("validator_set",),
    )
    steps = value["proof"]
    if not isinstance(steps, list) or len(steps) > MAX_PROOF_LENGTH:
        raise InvalidInput(f"expected a list of at most {MAX_PROOF_LENGTH} digests", "proof")
    return FeedProof(
        domain=parse_domain(value["domain"]),
        item=FeedItem.from_json(value["item"]),
        proof=tuple(_parse_digest(step, f"proof[{index}]") for index, step in enumerate(steps)),
        checkpoint=Checkpoint.from_json(value["checkpoint"]),
        certificate=Certificate.from_json(value["certificate"]),
        validator_set=ValidatorSet.from_json(value["validator_set"]) if "validator_set" in value else None,
    )


def parse_validator_set_file(data: bytes) -> ValidatorSetFile:
    """Parse the canonical bytes of a validator-set file; raises InvalidInput with the field's name."""
    value = _parse_file(data, MAX_VALIDATOR_SET_BYTES, VALIDATOR_SET_KIND, required=("domain", "validator_set"))
    return ValidatorSetFile(
        domain=parse_domain(value["domain"]), validator_set=ValidatorSet.from_json(value["validator_set"])
    )


def verify_feed_proof(
    proof: FeedProof,
    trusted: ValidatorSetFile,
    *,
    max_age_s: int,
    now_s: int,
    provider: bytes | None = None,
    offer_digest: bytes | None = None,
) -> FeedItem:
    """Return the item of the proof once everything about it holds under the trusted network and validator set.

    `max_age_s` is the greatest age of the checkpoint's time that the reader accepts, `now_s` the reader's clock in
    unix seconds; `provider` and `offer_digest`, when given, are whose item the reader asked for. Raises
    VerificationFailed with a sentence, InvalidInput when an age or time is not a number of seconds.
    """
    _check_seconds(max_age_s, "max_age_s")
    _check_seconds(now_s, "now_s")
    _verify_origin(proof, trusted)
    signing_root = compute_signing_root(proof.checkpoint, trusted.domain)
    verify_certificate(proof.certificate, trusted.validator_set, signing_root)
    verify_proof(proof.checkpoint.feed_root, compute_struct_hash(proof.item), proof.proof)
    if (proof.item.epoch, proof.item.time_s) != (proof.checkpoint.epoch, proof.checkpoint.time_s):
        raise VerificationFailed("the item is of another epoch than the checkpoint that certifies it")
    if provider is not None and proof.item.provider != provider:
        raise VerificationFailed(f"the proof is about provider 0x{proof.item.provider.hex()}, not 0x{provider.hex()}")
    if offer_digest is not None and proof.item.offer_digest != offer_digest:
        raise VerificationFailed("the proof is about another offer of the provider")
    verify_age(proof.checkpoint.time_s, max_age_s=max_age_s, now_s=now_s)
    return proof.item


def verify_age(time_s: int, *, max_age_s: int, now_s: int) -> None:
    """Check that a certified time is neither too old nor in the future; raises VerificationFailed."""
    if time_s > now_s + MAX_CLOCK_SKEW_S:
        raise VerificationFailed(f"from the future by {time_s - now_s} s: is this machine's clock right?")
    if now_s - time_s > max_age_s:
        raise VerificationFailed(f"stale: {now_s - time_s} s old where at most {max_age_s} s is accepted")


def build_domain_json(domain: Domain) -> dict[str, Json]:
    """Return the JSON object of a domain."""
    return {"chain_id": domain.chain_id, "verifying_contract": "0x" + domain.verifying_contract.hex()}


def parse_domain(value: object) -> Domain:
    """Parse the JSON object of a domain; raises InvalidInput."""
    if not isinstance(value, dict) or set(value) != {"chain_id", "verifying_contract"}:
        raise InvalidInput("expected an object with chain_id and verifying_contract", "domain")
    return Domain(
        chain_id=value["chain_id"],
        verifying_contract=parse_hex(value["verifying_contract"], "verifying_contract"),
    )


def _verify_origin(proof: FeedProof, trusted: ValidatorSetFile) -> None:
    if proof.domain != trusted.domain:
        raise VerificationFailed(
            f"from a foreign network: {_describe(proof.domain)} where {_describe(trusted.domain)} is trusted"
        )
    if proof.checkpoint.validator_set_digest != compute_validator_set_digest(trusted.validator_set):
        raise VerificationFailed(
            "certified by another validator set than the trusted one: refresh the validator-set file from a source"
            " that you trust, or do not trust this proof"
        )
    if proof.validator_set is not None and proof.validator_set != trusted.validator_set:
        raise VerificationFailed("the validator set inside the proof is not the trusted one")


def _describe(domain: Domain) -> str:
    return f"chain {domain.chain_id}, contract 0x{domain.verifying_contract.hex()}"


def _parse_file(
    data: bytes, max_bytes: int, kind: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Json]:
    value = canonical.decode(data, max_bytes)
    if not isinstance(value, dict):
        raise InvalidInput(f"expected an object of kind {kind}")
    if value.get("kind") != kind:
        raise InvalidInput(f"expected {kind}, got {str(value.get('kind'))[:80]}", "kind")
    for key in required:
        if key not in value:
            raise InvalidInput(f"missing from {kind}", key)
    for key in value:
        if key not in ("kind", *required, *optional):
            raise InvalidInput(f"unknown key in {kind}", key[:80])
    return value


def _parse_digest(value: object, field: str) -> bytes:
    digest = parse_hex(value, field)
    if len(digest) != 32:
        raise InvalidInput(f"expected 32 bytes, got {len(digest)}", field)
    return digest


def _check_seconds(value: object, field: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInput("expected a whole number of seconds, 0 or more", field)

"""From a validator's random function to the requests it must send: nothing is chosen, so anybody can check it.

The seed of probe i of an offer is fixed by the validator's VRF output of the epoch; prompt, parameters, sampler seed,
nonce and the consumer identity that the probe travels under all follow from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from challenges.receipt import Answer, SignedOffer, SignedReceipt, parse_answer, verify_receipt
from scoring.canonical import Json
from scoring.eip712 import Domain
from scoring.evidence.plan import Plan
from scoring.hashing import tagged_digest
from scoring.probes import Probe, build_probe, compute_probe_seed
from scoring.records import PPM


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnProbe:
    """Probe `index` of an offer in one epoch, as one validator must send it."""

    offer: SignedOffer
    index: int
    probe: Probe
    consumer: bytes

    @property
    def key(self) -> tuple[bytes, bytes, int]:
        """Return (provider, offer digest, index): the canonical order of a reveal."""
        return (self.offer.offer.provider, self.offer.digest, self.index)


def draw_probes(plan: Plan, offers: Sequence[SignedOffer], vrf_output: bytes) -> tuple[DrawnProbe, ...]:
    """Return every probe that the VRF output fixes, in canonical order. Offers of other models are not audited."""
    audited = [signed for signed in offers if signed.offer.manifest_digest == plan.manifest_digest]
    drawn = []
    for signed in audited:
        provider = signed.offer.provider
        for index in range(plan.probes_per_epoch):
            seed = compute_probe_seed(vrf_output, provider, plan.manifest_digest, index)
            consumer = tagged_digest("quiver-probe-consumer", seed)[-20:]
            probe = build_probe(seed, plan)
            drawn.append(DrawnProbe(offer=signed, index=index, probe=probe, consumer=consumer))
    return tuple(sorted(drawn, key=lambda item: item.key))


def build_probe_request(drawn: DrawnProbe) -> dict[str, object]:
    """Return the chat-completions request of a probe (temperature and top_p are floats, as the API wants them)."""
    probe = drawn.probe
    return {
        "model": drawn.offer.offer.model,
        "messages": [{"role": message.role, "content": message.content} for message in probe.messages],
        "temperature": probe.temperature_ppm / PPM,
        "top_p": probe.top_p_ppm / PPM,
        "max_tokens": probe.max_tokens,
        "seed": probe.sampler_seed,
        "return_token_ids": True,
        "quiver_nonce": "0x" + probe.nonce.hex(),
        "quiver_consumer": "0x" + drawn.consumer.hex(),
    }


def build_plain_response(answer: Answer) -> dict[str, Json]:
    """Return an answer in the unstreamed form that receipts are checked against and transcripts keep."""
    return {
        "model": answer.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.content},
                "finish_reason": answer.finish_reason,
                "token_ids": None if answer.token_ids is None else list(answer.token_ids),
            }
        ],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        },
    }


def verify_probe_answer(
    drawn: DrawnProbe, response: Mapping[str, object], receipt: SignedReceipt, *, domain: Domain, now_s: int
) -> Answer:
    """Return the answer when its receipt speaks of just this probe; raises VerificationFailed or InvalidInput."""
    verify_receipt(
        receipt,
        domain=domain,
        offer=drawn.offer,
        consumer=drawn.consumer,
        nonce=drawn.probe.nonce,
        request=build_probe_request(drawn),
        response=response,
        now_s=now_s,
    )
    return parse_answer(response)

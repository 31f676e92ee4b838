"""Signatures on tolerance profiles."""

from dataclasses import replace

import pytest

from scoring import canonical
from scoring.ecdsa import address_of
from scoring.errors import InvalidInput, VerificationFailed
from scoring.evidence.profile_signature import ProfileSignature, sign_profile, verify_profile_signature

KEY, OTHER_KEY = b"\x01" * 32, b"\x02" * 32


def test_a_signed_profile_is_verified_and_names_its_account(profile):
    signed = ProfileSignature.decode(sign_profile(profile, KEY).encode())
    verify_profile_signature(profile, signed)
    assert signed.account == address_of(KEY)


def test_another_profile_is_refused(profile):
    signed = sign_profile(profile, KEY)
    with pytest.raises(VerificationFailed, match="another profile"):
        verify_profile_signature(replace(profile, engine="other"), signed)


def test_another_account_is_refused(profile):
    signed = replace(sign_profile(profile, KEY), account=address_of(OTHER_KEY))
    with pytest.raises(VerificationFailed, match="signed by"):
        verify_profile_signature(profile, signed)


def build(**changes):
    values = {"account": "0x" + "11" * 20, "profile_digest": "0x" + "22" * 32, "signature": "0x" + "33" * 65}
    return canonical.encode({**values, **changes})


REFUSED = {
    "nonsense": b"nonsense",
    "a list": b"[]",
    "another key": build(more="0x00"),
    "a short account": build(account="0x11"),
    "a long digest": build(profile_digest="0x" + "22" * 33),
    "no hex": build(signature="33" * 65),
    "a number": build(account=7),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(data):
    with pytest.raises(InvalidInput):
        ProfileSignature.decode(data)

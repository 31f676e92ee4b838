"""BLS12-381 signatures on bytes: the IETF proof-of-possession scheme with 48-byte public keys and 96-byte signatures.

What each operation promises is written on it in `_bls_scheme.py`. In short: secret keys are 32 bytes big-endian,
0 < sk < r; `key_validate` and everything named verify answer True or False to any input whatever and never raise;
`key_gen`, `sk_to_pk`, `sign`, `aggregate` and `pop_prove` raise `scoring.errors.InvalidInput`.

Two libraries compute the same answers. `pyblst` is the default; with QUIVER_BLS_BACKEND=py_ecc the pure-Python
reference does, about 300 times slower and not in constant time. That variable is read once, when this module is
imported: the only place where this package looks at its surroundings, allowed because no answer depends on it. The
import checks the chosen library against a known answer and raises RuntimeError if it computes wrongly.
"""

import os

from scoring._bls_scheme import (
    PUBLIC_KEY_BYTES,
    SECRET_KEY_BYTES,
    SIGNATURE_BYTES,
    SUBGROUP_ORDER,
    Curve,
    Scheme,
)
from scoring.errors import InvalidInput, MissingExtra

__all__ = [
    "BACKEND",
    "BACKENDS",
    "PUBLIC_KEY_BYTES",
    "SECRET_KEY_BYTES",
    "SIGNATURE_BYTES",
    "SUBGROUP_ORDER",
    "Scheme",
    "aggregate",
    "aggregate_verify",
    "batch_verify",
    "build_scheme",
    "fast_aggregate_verify",
    "key_gen",
    "key_validate",
    "pop_prove",
    "pop_verify",
    "sign",
    "sk_to_pk",
    "verify",
]

BACKEND_VARIABLE = "QUIVER_BLS_BACKEND"
BACKENDS = ("pyblst", "py_ecc")

# From the sign and verify cases of github.com/ethereum/bls12-381-tests, which other libraries reproduce.
_KNOWN_SECRET_KEY = bytes.fromhex("263dbd792f5b1be47ed85f8938c0f29586af0d3ac7b977f21c278fe1462040e3")
_KNOWN_PUBLIC_KEY = bytes.fromhex(
    "a491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20fd6e10c1b77654d067c0618f6e5a7f79a"
)
_KNOWN_MESSAGE = b"\xab" * 32
_KNOWN_SIGNATURE = bytes.fromhex(
    "91347bccf740d859038fcdcaf233eeceb2a436bcaaee9b2aa3bfb70efe29dfb2677562ccbea1c8e061fb9971b0753c24"
    "0622fab78489ce96768259fc01360346da5b9f579e5da0d941e4c6ba18a0e64906082375394f337fa1af2b7127b0d121"
)


def build_scheme(backend: str) -> Scheme:
    """Return the scheme over the named backend, after checking it against a known answer.

    Raises InvalidInput for an unknown name, MissingExtra when py_ecc is not installed, RuntimeError when the library
    computes wrongly.
    """
    if backend not in BACKENDS:
        raise InvalidInput(f"must be {' or '.join(BACKENDS)}, not {backend!r}", BACKEND_VARIABLE)
    scheme = Scheme(_load_curve(backend))
    verify_known_answer(scheme, backend)
    return scheme


def verify_known_answer(scheme: Scheme, backend: str) -> None:
    """Raise RuntimeError unless the scheme derives, signs, accepts and refuses the known vector as it must."""
    is_right = (
        scheme.sk_to_pk(_KNOWN_SECRET_KEY) == _KNOWN_PUBLIC_KEY
        and scheme.sign(_KNOWN_SECRET_KEY, _KNOWN_MESSAGE) == _KNOWN_SIGNATURE
        and scheme.verify(_KNOWN_PUBLIC_KEY, _KNOWN_MESSAGE, _KNOWN_SIGNATURE)
        and not scheme.verify(_KNOWN_PUBLIC_KEY, _KNOWN_MESSAGE[1:], _KNOWN_SIGNATURE)
    )
    if not is_right:
        raise RuntimeError(f"the BLS backend {backend} fails its self-test: do not use this installation")


def _load_curve(backend: str) -> Curve:
    if backend == "pyblst":
        from scoring import _bls_pyblst

        return _bls_pyblst
    try:
        from scoring import _bls_py_ecc
    except ModuleNotFoundError as error:
        advice = f"pip install 'quiver-oracle[validator]', or unset {BACKEND_VARIABLE}"
        raise MissingExtra(f"the BLS backend py_ecc is not installed: {advice}") from error
    return _bls_py_ecc


BACKEND = os.environ.get(BACKEND_VARIABLE) or BACKENDS[0]
_scheme = build_scheme(BACKEND)

key_gen = _scheme.key_gen
sk_to_pk = _scheme.sk_to_pk
key_validate = _scheme.key_validate
sign = _scheme.sign
verify = _scheme.verify
aggregate = _scheme.aggregate
fast_aggregate_verify = _scheme.fast_aggregate_verify
aggregate_verify = _scheme.aggregate_verify
batch_verify = _scheme.batch_verify
pop_prove = _scheme.pop_prove
pop_verify = _scheme.pop_verify

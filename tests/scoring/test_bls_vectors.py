"""BLS against answers that others computed: the Ethereum vectors, RFC 9380, EIP-2333, and beacons of the drand network.

The Ethereum vectors come from py_ecc and milagro (github.com/ethereum/bls12-381-tests, v0.1.2). Independent of both of
our backends are RFC 9380's appendix J.10.1, EIP-2333's test cases, and drand (kyber with kilic's curve, in Go).
"""

import hashlib
from types import ModuleType

import pytest

from scoring import _bls_py_ecc, _bls_pyblst, bls
from scoring._bls_scheme import Scheme
from scoring.errors import InvalidInput

CURVES = {"pyblst": _bls_pyblst, "py_ecc": _bls_py_ecc}

SECRET_KEYS = [
    "263dbd792f5b1be47ed85f8938c0f29586af0d3ac7b977f21c278fe1462040e3",
    "47b8192d77bf871b62e87859d653922725724a5c031afeabc60bcef5ff665138",
    "328388aff0d4a5b7dc9205abd374e7e98f3cd9f3418edb4eafda5fb16473d216",
]
PUBLIC_KEYS = [
    "a491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20fd6e10c1b77654d067c0618f6e5a7f79a",
    "b301803f8b5ac4a1133581fc676dfedc60d891dd5fa99028805e5ea5b08d3491af75d0707adab3b70c6a6a580217bf81",
    "b53d21a4cfd562c469cc81514d4ce5a6b577d8403d32a394dc265dd190b47fa9f829fdd7963afdf972e5e77854051f6f",
]
MESSAGES = [b"\x00" * 32, b"\x56" * 32, b"\xab" * 32]
SIGNATURES = {
    (0, 0): "b6ed936746e01f8ecf281f020953fbf1f01debd5657c4a383940b020b26507f6076334f91e2366c96e9ab279fb515809"
    "0352ea1c5b0c9274504f4f0e7053af24802e51e4568d164fe986834f41e55c8e850ce1f98458c0cfc9ab380b55285a55",
    (0, 1): "882730e5d03f6b42c3abc26d3372625034e1d871b65a8a6b900a56dae22da98abbe1b68f85e49fe7652a55ec3d0591c2"
    "0767677e33e5cbb1207315c41a9ac03be39c2e7668edc043d6cb1d9fd93033caa8a1c5b0e84bedaeb6c64972503a43eb",
    (0, 2): "91347bccf740d859038fcdcaf233eeceb2a436bcaaee9b2aa3bfb70efe29dfb2677562ccbea1c8e061fb9971b0753c24"
    "0622fab78489ce96768259fc01360346da5b9f579e5da0d941e4c6ba18a0e64906082375394f337fa1af2b7127b0d121",
    (1, 0): "b23c46be3a001c63ca711f87a005c200cc550b9429d5f4eb38d74322144f1b63926da3388979e5321012fb1a0526bcd1"
    "00b5ef5fe72628ce4cd5e904aeaa3279527843fae5ca9ca675f4f51ed8f83bbf7155da9ecc9663100a885d5dc6df96d9",
    (1, 1): "af1390c3c47acdb37131a51216da683c509fce0e954328a59f93aebda7e4ff974ba208d9a4a2a2389f892a9d418d6184"
    "18dd7f7a6bc7aa0da999a9d3a5b815bc085e14fd001f6a1948768a3f4afefc8b8240dda329f984cb345c6363272ba4fe",
    (1, 2): "9674e2228034527f4c083206032b020310face156d4a4685e2fcaec2f6f3665aa635d90347b6ce124eb879266b1e801d"
    "185de36a0a289b85e9039662634f2eea1e02e670bc7ab849d006a70b2f93b84597558a05b879c8d445f387a5d5b653df",
    (2, 0): "948a7cb99f76d616c2c564ce9bf4a519f1bea6b0a624a02276443c245854219fabb8d4ce061d255af5330b078d538068"
    "1751aa7053da2c98bae898edc218c75f07e24d8802a17cd1f6833b71e58f5eb5b94208b4d0bb3848cecb075ea21be115",
    (2, 1): "a4efa926610b8bd1c8330c918b7a5e9bf374e53435ef8b7ec186abf62e1b1f65aeaaeb365677ac1d1172a1f5b44b4e6d"
    "022c252c58486c0a759fbdc7de15a756acc4d343064035667a594b4c2a6f0b0b421975977f297dba63ee2f63ffe47bb6",
    (2, 2): "ae82747ddeefe4fd64cf9cedb9b04ae3e8a43420cd255e3c7cd06a8d88b7c7f8638543719981c5d16fa3527c468c25f0"
    "026704a6951bde891360c7e8d12ddee0559004ccdbe6046b55bae1b257ee97f7cdb955773d7cf29adf3ccbb9975e4eb9",
}
# Of all three keys on one message.
AGGREGATES = [
    "9683b3e6701f9a4b706709577963110043af78a5b41991b998475a3d3fd62abf35ce03b33908418efc95a058494a8ae5"
    "04354b9f626231f6b3f3c849dfdeaf5017c4780e2aee1850ceaf4b4d9ce70971a3d2cfcd97b7e5ecf6759f8da5f76d31",
    "ad38fc73846583b08d110d16ab1d026c6ea77ac2071e8ae832f56ac0cbcdeb9f5678ba5ce42bd8dce334cc47b5abcba4"
    "0a58f7f1f80ab304193eb98836cc14d8183ec14cc77de0f80c4ffd49e168927a968b5cdaa4cf46b9805be84ad7efa77b",
    "9712c3edd73a209c742b8250759db12549b3eaf43b5ca61376d9f30e2747dbcf842d8b2ac0901d2a093713e20284a767"
    "0fcf6954e9ab93de991bb9b313e664785a075fc285806fa5224c82bde146561b446ccfc706a64b8579513cfc4ff1d930",
]
AGGREGATE_OF_OWN_MESSAGES = (
    "9104e74b9dfd3ad502f25d6a5ef57db0ed7d9a0e00f3500586d8ce44231212542fcfaf87840539b398bf07626705cf11"
    "05d246ca1062c6c2e1a53029a0f790ed5e3cb1f52f8234dc5144c45fc847c0cd37a92d68e7c5ba7c648a8a339f171244"
)
INFINITY_G1 = "c0" + "00" * 47
INFINITY_G2 = "c0" + "00" * 95
REPEATED = "0123456789abcdef" * 6
MODULUS_WITHOUT_FLAGS = (
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"
)
MODULUS_WITH_FLAG = "9" + MODULUS_WITHOUT_FLAGS[1:]

# By name, after the deserialization cases. Infinity is a point there; here it is refused like the rest.
G1_ENCODINGS = {
    "zero x without the infinity flag": "80" + "00" * 47,
    "infinity flag and a stray bit": "c01" + "0" * 93,
    "on the curve, not in the subgroup": "8" + REPEATED[1:],
    "not on the curve": "8" + REPEATED[1:-1] + "0",
    "a byte short": "9a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaa",
    "a byte long": "9a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaa900",
    "infinity with the sign flag": "e0" + "00" * 47,
    "infinity flag on a finite x": "c" + REPEATED[1:],
    "uncompressed flag": REPEATED,
    "x equal to the modulus": MODULUS_WITH_FLAG,
    "x above the modulus": MODULUS_WITH_FLAG[:-1] + "c",
    "infinity": INFINITY_G1,
}
G2_ENCODINGS = {
    "zero x without the infinity flag": "80" + "00" * 95,
    "infinity flag and a stray bit": "c01" + "0" * 189,
    "on the curve, not in the subgroup": "8" + REPEATED[1:] + REPEATED,
    "not on the curve": "8" + REPEATED[1:] + REPEATED[:-1] + "0",
    "a byte short": "8" + REPEATED[1:] + REPEATED[:-2],
    "a byte long": "8" + REPEATED[1:] + REPEATED + "ff",
    "infinity with the sign flag": "e0" + "00" * 95,
    "infinity flag on a finite x": "c" + REPEATED[1:] + REPEATED,
    "uncompressed flag": REPEATED + REPEATED,
    "imaginary part equal to the modulus": MODULUS_WITH_FLAG + "00" * 48,
    "imaginary part above the modulus": MODULUS_WITH_FLAG[:-1] + "c" + "00" * 48,
    "real part equal to the modulus": "80" + "00" * 47 + MODULUS_WITHOUT_FLAGS,
    "real part above the modulus": "80" + "00" * 47 + MODULUS_WITHOUT_FLAGS[:-1] + "c",
    "infinity": INFINITY_G2,
}

# RFC 9380, appendix J.10.1: message, x (imaginary then real part, as in our encoding), whether y is the larger root.
HASH_DST = b"QUUX-V01-CS02-with-BLS12381G2_XMD:SHA-256_SSWU_RO_"
HASH_TO_G2 = {
    b"": "a5cb8437535e20ecffaef7752baddf98034139c38452458baeefab379ba13dff5bf5dd71b72418717047f5b0f37da03d"
    "0141ebfbdca40eb85b87142e130ab689c673cf60f1a3e98d69335266f30d9b8d4ac44c1038e9dcdd5393faf5c41fb78a",
    b"abc": "939cddbccdc5e91b9623efd38c49f81a6f83f175e80b06fc374de9eb4b41dfe4ca3a230ed250fbe3a2acf73a41177fd8"
    "02c2d18e033b960562aae3cab37a27ce00d80ccd5ba4b7fe0e7a210245129dbec7780ccc7954725f4168aff2787776e6",
    b"abcdef0123456789": ""
    "990d119345b94fbd15497bcba94ecf7db2cbfd1e1fe7da034d26cbba169fb3968288b3fafb265f9ebd380512a71c3f2c"
    "121982811d2491fde9ba7ed31ef9ca474f0e1501297f68c298e9f4c0028add35aea8bb83d53c08cfc007c1e005723cd0",
    b"a512_"
    + b"a" * 512: "91fca2ff525572795a801eed17eb12785887c7b63fb77a42be46ce4a34131d71f7a73e95fee3f812aea3de78b4d01569"
    "01a6ba2f9a11fa5598b2d8ace0fbe0a0eacb65deceb476fbbcb64fd24557c2f4b18ecfc5663e54ae16a84f5ab7f62534",
}

# EIP-2333: seed and master key.
MASTER_KEYS = {
    "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141"
    "630c7a3c4ab7c81b2f001698e7463b04": 6083874454709270928345386274498605044986640685124978867557563392430687146096,
    "3141592653589793238462643383279502884197169399375105820974944592": (
        29757020647961307431480504535336562678282505419141012933316116377660817309383
    ),
    "0099ff991111002299dd7744ee3355bbdd8844115566cc55663355668888cc00": (
        27580842291869792442942448775674722299803720648445448686099262467207037398656
    ),
    "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3": (
        19022158461524446591288038168518313374041767046816487870552872741050760015818
    ),
}

# drand's default chain (8990e7a9...), signed by the League of Entropy with keys in G1 and the basic scheme's tag.
DRAND_DST = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_"
DRAND_KEY = "868f005eb8e6e4ca0a47c8a77ceaa5309a47978a7c71bc5cce96366b5d7a569937c529eeda66c7293784a9402801af31"
DRAND_ROUNDS = {
    1: (
        "176f93498eac9ca337150b46d21dd58673ea4e3581185f869672e59fa4cb390a",
        "8d61d9100567de44682506aea1a7a6fa6e5491cd27a0a0ed349ef6910ac5ac20ff7bc3e09d7c046566c9f7f3c6f3b101"
        "04990e7cb424998203d8f7de586fb7fa5f60045417a432684f85093b06ca91c769f0e7ca19268375e659c2a2352b4655",
    ),
    72785: (
        "a609e19a03c2fcc559e8dae14900aaefe517cb55c840f6e69bc8e4f66c8d18e8a609685d9917efbfb0c37f058c2de88f"
        "13d297c7e19e0ab24813079efe57a182554ff054c7638153f9b26a60e7111f71a0ff63d9571704905d3ca6df0b031747",
        "82f5d3d2de4db19d40a6980e8aa37842a0e55d1df06bd68bddc8d60002e8e959eb9cfa368b3c1b77d18f02a54fe047b8"
        "0f0989315f83b12a74fd8679c4f12aae86eaf6ab5690b34f1fddd50ee3cc6f6cdf59e95526d5a5d82aaa84fa6f181e42",
    ),
}


@pytest.fixture(scope="module", params=CURVES)
def curve(request: pytest.FixtureRequest) -> ModuleType:
    return CURVES[request.param]


@pytest.fixture(scope="module")
def scheme(curve: ModuleType) -> Scheme:
    return Scheme(curve)


def unhex(encoded: str) -> bytes:
    return bytes.fromhex(encoded)


def test_derives_the_public_keys_of_the_ethereum_vectors(scheme: Scheme) -> None:
    assert [scheme.sk_to_pk(unhex(sk)).hex() for sk in SECRET_KEYS] == PUBLIC_KEYS


def test_signs_the_ethereum_vectors_byte_for_byte() -> None:
    for (key, message), signature in SIGNATURES.items():
        assert bls.sign(unhex(SECRET_KEYS[key]), MESSAGES[message]).hex() == signature


def test_the_reference_signs_the_ethereum_vectors_of_each_key() -> None:
    scheme = Scheme(_bls_py_ecc)
    for index in range(3):
        assert scheme.sign(unhex(SECRET_KEYS[index]), MESSAGES[index]).hex() == SIGNATURES[index, index]


def test_verifies_each_ethereum_signature_for_its_own_key_and_message_only() -> None:
    for (key, message), signature in SIGNATURES.items():
        for other_key, pk in enumerate(PUBLIC_KEYS):
            for other_message, text in enumerate(MESSAGES):
                is_own = (key, message) == (other_key, other_message)
                assert bls.verify(unhex(pk), text, unhex(signature)) is is_own


def test_the_generator_is_the_public_key_of_one_and_signs_the_ethereum_vector(scheme: Scheme) -> None:
    one = (1).to_bytes(32, "big")
    assert scheme.sk_to_pk(one).hex().startswith("97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905")
    assert scheme.sign(one, b"\x12" * 32).hex() == (
        "a42ae16f1c2a5fa69c04cb5998d2add790764ce8dd45bf25b29b4700829232052b52352dcff1cf255b3a7810ad726960"
        "1810f03b2bc8b68cf289cf295b206770605a190b6842583e47c3d1c0f73c54907bfb2a602157d46a4353a20283018763"
    )


def test_aggregates_the_ethereum_vectors(scheme: Scheme) -> None:
    for message, aggregate in enumerate(AGGREGATES):
        assert scheme.aggregate([unhex(SIGNATURES[key, message]) for key in range(3)]).hex() == aggregate
    assert scheme.aggregate([unhex(SIGNATURES[index, index]) for index in range(3)]).hex() == AGGREGATE_OF_OWN_MESSAGES


def test_aggregates_a_single_signature_and_infinity_to_themselves(scheme: Scheme) -> None:
    assert scheme.aggregate([unhex(SIGNATURES[0, 0])]).hex() == SIGNATURES[0, 0]
    assert scheme.aggregate([unhex(INFINITY_G2)]).hex() == INFINITY_G2
    with pytest.raises(InvalidInput):
        scheme.aggregate([])


def test_fast_aggregate_verifies_the_ethereum_vectors(scheme: Scheme) -> None:
    pks, aggregate = [unhex(pk) for pk in PUBLIC_KEYS], unhex(AGGREGATES[2])
    assert scheme.fast_aggregate_verify(pks, MESSAGES[2], aggregate)
    assert not scheme.fast_aggregate_verify([*pks, pks[2]], MESSAGES[2], aggregate)
    assert not scheme.fast_aggregate_verify([*pks, unhex(INFINITY_G1)], MESSAGES[2], aggregate)


def test_aggregate_verifies_the_ethereum_vectors(scheme: Scheme) -> None:
    pks, aggregate = [unhex(pk) for pk in PUBLIC_KEYS], unhex(AGGREGATE_OF_OWN_MESSAGES)
    assert scheme.aggregate_verify(pks, MESSAGES, aggregate)
    assert not scheme.aggregate_verify([*pks, unhex(INFINITY_G1)], [*MESSAGES, b"\x12" * 32], aggregate)
    assert not scheme.aggregate_verify(pks, MESSAGES, aggregate[:4] + b"\xff" * 4)


@pytest.mark.parametrize("name", G1_ENCODINGS)
def test_refuses_the_public_key_that_is(scheme: Scheme, name: str) -> None:
    assert scheme.key_validate(unhex(G1_ENCODINGS[name])) is False


@pytest.mark.parametrize("name", G2_ENCODINGS)
def test_refuses_the_signature_that_is(scheme: Scheme, name: str) -> None:
    assert scheme.verify(unhex(PUBLIC_KEYS[0]), MESSAGES[0], unhex(G2_ENCODINGS[name])) is False


def test_hashes_to_the_points_of_rfc_9380(curve: ModuleType) -> None:
    for message, point in HASH_TO_G2.items():
        assert curve.encode_g2(curve.hash_to_g2(message, HASH_DST)).hex() == point


def test_derives_the_master_keys_of_eip_2333() -> None:
    assert {seed: int.from_bytes(bls.key_gen(unhex(seed)), "big") for seed in MASTER_KEYS} == MASTER_KEYS


@pytest.mark.parametrize("number", DRAND_ROUNDS)
def test_verifies_a_beacon_that_the_drand_network_signed(curve: ModuleType, number: int) -> None:
    previous, signature = DRAND_ROUNDS[number]
    digest = hashlib.sha256(unhex(previous) + number.to_bytes(8, "big")).digest()
    basic = Scheme(curve, signature_dst=DRAND_DST)
    assert basic.verify(unhex(DRAND_KEY), digest, unhex(signature))
    assert not basic.verify(unhex(DRAND_KEY), unhex(previous)[:32], unhex(signature))


def test_a_drand_beacon_is_no_signature_under_our_own_tag() -> None:
    previous, signature = DRAND_ROUNDS[1]
    digest = hashlib.sha256(unhex(previous) + (1).to_bytes(8, "big")).digest()
    assert not bls.verify(unhex(DRAND_KEY), digest, unhex(signature))

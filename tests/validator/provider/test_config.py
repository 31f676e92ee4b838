"""Configuration, keys and offers of a provider."""

import json
import stat

import pytest

from scoring.ecdsa import address_of
from scoring.errors import InvalidInput, Unavailable, VerificationFailed
from validator.provider.config import NO_NETWORK, ProviderConfig, ProxyConfig, load_config, write_config
from validator.provider.identity import load_key, load_or_create_key, open_identity

GOOD = {"data_dir": "data"}
GOOD_PROXY = {"data_dir": "data", "upstream": "http://127.0.0.1:9", "model": "m"}


def load(tmp_path, values, kind=ProviderConfig):
    write_config(tmp_path / "provider.json", values)
    return load_config(tmp_path / "provider.json", kind)


def test_a_data_directory_is_enough_and_paths_are_relative_to_the_file(tmp_path) -> None:
    config = load(tmp_path, GOOD)
    assert config.data_dir == tmp_path / "data"
    assert config.key_path == tmp_path / "data" / "provider-key"
    assert (config.model, config.dtype, config.network) == ("bundled", "bf16", NO_NETWORK)


def test_reads_the_sampler_and_whether_activations_are_proved(tmp_path) -> None:
    config = load(tmp_path, {**GOOD, "sampler": "inverse-cdf", "toploc": True})
    assert (config.sampler, config.toploc) == ("inverse-cdf", True)
    assert (load(tmp_path, GOOD).sampler, load(tmp_path, GOOD).toploc) == ("gumbel-philox-v1", False)


def test_reads_the_network_the_prices_and_the_cheats(tmp_path) -> None:
    values = {
        **GOOD,
        "network": "0x" + "12" * 32,
        "chain_id": 5,
        "output_price_wei": "100000000000000000000",
        "cheats": ["int4", "slow=10"],
    }
    config = load(tmp_path, values)
    assert config.domain.verifying_contract == b"\x12" * 20
    assert config.output_price_wei == 10**20
    assert (config.cheats.variant, config.cheats.slow_ms) == ("int4", 10)


REFUSED = {
    "no data directory": ({}, ProviderConfig, "data_dir"),
    "an unknown setting": ({**GOOD, "modle": "x"}, ProviderConfig, "modle"),
    "a dtype that is none": ({**GOOD, "dtype": "int4"}, ProviderConfig, "dtype"),
    "a port out of range": ({**GOOD, "port": 70000}, ProviderConfig, "port"),
    "a port that is text": ({**GOOD, "port": "80"}, ProviderConfig, "port"),
    "a price that is a number": ({**GOOD, "input_price_wei": 5}, ProviderConfig, "input_price_wei"),
    "a short network": ({**GOOD, "network": "0x12"}, ProviderConfig, "network"),
    "an unknown cheat": ({**GOOD, "cheats": ["int3"]}, ProviderConfig, "cheat"),
    "cheats that are text": ({**GOOD, "cheats": "int4"}, ProviderConfig, "cheats"),
    "a path with a zero byte": ({"data_dir": "a\0b"}, ProviderConfig, "data_dir"),
    "a public URL that is none": ({**GOOD, "public_url": "ftp://x"}, ProviderConfig, "public_url"),
    "a sampler that draws nothing": ({**GOOD, "sampler": "none"}, ProviderConfig, "sampler"),
    "a sampler that is a list": ({**GOOD, "sampler": ["inverse-cdf"]}, ProviderConfig, "sampler"),
    "proofs as text": ({**GOOD, "toploc": "yes"}, ProviderConfig, "toploc"),
    "no rows": ({**GOOD, "max_rows": 0}, ProviderConfig, "max_rows"),
    "a proxy without upstream": ({"data_dir": "d", "model": "m"}, ProxyConfig, "upstream"),
    "a proxy without model": ({"data_dir": "d", "upstream": "http://x"}, ProxyConfig, "model"),
    "an upstream with a query": ({**GOOD_PROXY, "upstream": "http://x?a=b"}, ProxyConfig, "upstream"),
    "an upstream that is no URL": ({**GOOD_PROXY, "upstream": "x:80"}, ProxyConfig, "upstream"),
    "an upstream with a bad port": ({**GOOD_PROXY, "upstream": "http://x:99999"}, ProxyConfig, "upstream"),
    "a header with a line break": ({**GOOD_PROXY, "upstream_headers": {"A": "b\nC: d"}}, ProxyConfig, "printable"),
    "a proxy with cheats": ({**GOOD_PROXY, "cheats": ["int4"]}, ProxyConfig, "cheats"),
}


@pytest.mark.parametrize(("values", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_a_configuration(tmp_path, values, kind, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        load(tmp_path, values, kind)


BAD_FILES = {"not JSON": b"{", "a list": b"[]", "too large": b" " * 300_000, "a duplicate key": b'{"a":1,"a":1}'}


@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES)
def test_refuses_a_file(tmp_path, data) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"x\.json"):
        load_config(tmp_path / "x.json", ProviderConfig)


def test_a_missing_file_is_unavailable(tmp_path) -> None:
    with pytest.raises(Unavailable):
        load_config(tmp_path / "none.json", ProviderConfig)


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path) -> None:
    path = tmp_path / "new" / "key"
    key = load_or_create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path) == load_key(path) == key


BAD_KEYS = {
    "open to others": ("0x" + "11" * 32, 0o644),
    "too short": ("0x11", 0o600),
    "not hex": ("0x" + "zz" * 32, 0o600),
    "zero": ("0x" + "00" * 32, 0o600),
    "empty": ("", 0o600),
    "beyond the group": ("0x" + "ff" * 32, 0o600),
}


@pytest.mark.parametrize(("text", "mode"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_refuses_a_key_file_without_showing_the_key(tmp_path, text, mode) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(InvalidInput) as refused:
        load_or_create_key(path)
    assert not text or text not in str(refused.value)


def open_offer(config: ProviderConfig, model: str = "m"):
    return open_identity(
        config, model=model, manifest_digest=b"m" * 32, sampler="none", context_length_tokens=9, endpoint="http://x"
    )


def test_a_restart_keeps_the_offer(tmp_path) -> None:
    config = ProviderConfig(data_dir=tmp_path)
    first, second = open_offer(config), open_offer(config)
    assert first.signed_offer == second.signed_offer
    assert first.address == address_of(load_key(config.key_path))


def test_other_terms_make_another_offer(tmp_path) -> None:
    config = ProviderConfig(data_dir=tmp_path)
    assert open_offer(config).signed_offer != open_offer(config, "other").signed_offer


def test_a_named_offer_file_is_never_replaced(tmp_path) -> None:
    config = ProviderConfig(data_dir=tmp_path, offer_file=tmp_path / "mine.json")
    open_offer(config)
    with pytest.raises(VerificationFailed, match="another model"):
        open_offer(config, "other")


def test_an_offer_with_a_foreign_signature_is_refused(tmp_path) -> None:
    config = ProviderConfig(data_dir=tmp_path)
    open_offer(config)
    document = json.loads(config.offer_path.read_text())
    document["signature"] = "0x" + "01" * 64 + "1b"
    config.offer_path.write_text(json.dumps(document))
    with pytest.raises(VerificationFailed):
        open_offer(config)


def test_an_offer_file_that_is_garbage_is_refused(tmp_path) -> None:
    config = ProviderConfig(data_dir=tmp_path)
    config.offer_path.write_text("{}")
    with pytest.raises(InvalidInput, match="offer"):
        open_offer(config)


def test_the_secret_key_is_not_in_the_repr_of_an_identity(tmp_path) -> None:
    identity = open_offer(ProviderConfig(data_dir=tmp_path))
    assert identity.secret_key.hex() not in repr(identity)
    assert repr(identity.secret_key) not in repr(identity)

"""The ports of a devnet: chosen early, so that nothing else may take them before they are listened at."""

import socket

import pytest

from scoring.errors import Unavailable
from validator.devnet import network


def test_ports_are_free_different_and_none_that_an_outgoing_connection_gets():
    ports = network._choose_ports(8)
    assert len(set(ports)) == 8
    assert all(1024 <= port < 32_768 for port in ports)


def test_a_port_in_use_is_passed_over(monkeypatch):
    with socket.socket() as taken:
        taken.bind((network.HOST, 0))
        port = taken.getsockname()[1]
        free = network._choose_ports(1)[0]
        monkeypatch.setattr(network.secrets.SystemRandom, "sample", lambda self, ports, count: [port, free])
        assert network._choose_ports(1) == [free]
        monkeypatch.setattr(network.secrets.SystemRandom, "sample", lambda self, ports, count: [port])
        with pytest.raises(Unavailable, match="free ports"):
            network._choose_ports(1)

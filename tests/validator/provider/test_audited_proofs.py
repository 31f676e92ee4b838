"""`quiver audit` against real provider processes that send activation proofs with their answers."""

import pytest
from audit_process import LIMIT_S, audit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 100)]

SERVER = "validator.provider.server"


def test_eight_bit_weights_are_proven_by_the_proofs_that_come_along(launch, tmp_path) -> None:
    running = launch(SERVER, cheats=["int8"], toploc=True)
    code, result = audit(tmp_path, "--endpoint", running.url, "--max-requests", 24)
    running.stop()
    assert (code, result["verdict"]) == (1, "proven")
    assert "activations" in result["channels"]

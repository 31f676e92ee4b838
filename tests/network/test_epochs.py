"""Epochs of a whole network in one process."""

from pathlib import Path

from simulation.network import open_network


async def test_four_seats_certify_the_same_checkpoint(tmp_path: Path) -> None:
    async with open_network(tmp_path) as network:
        certified = await network.certify_epochs(0, 1)
        assert len(certified.reveals) == 4

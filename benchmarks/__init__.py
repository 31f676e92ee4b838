"""What things cost: each module prints its own table (`python -m benchmarks.NAME`). Not part of the wheel."""

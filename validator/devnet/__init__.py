"""A whole network as real processes on loopback."""

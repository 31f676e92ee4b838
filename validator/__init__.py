"""The machine that does it: daemon, providers, devnet, command line."""

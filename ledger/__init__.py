"""What it costs: the ledger's pure state machine and the adapters that keep it."""

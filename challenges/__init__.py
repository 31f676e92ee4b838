"""How a score is disputed: receipts, claims, committees, verdicts, penalties, slashing evidence. Pure."""

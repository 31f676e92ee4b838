"""The embedded ledger: the state machine in SQLite as an RFC 6962 transparency log, served over HTTP."""

"""A provider to watch: an OpenAI-compatible server with signed receipts, a receipt proxy, labelled cheats for tests."""

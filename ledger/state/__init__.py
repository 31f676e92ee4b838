"""The deterministic state machine of the economics. Pure: apply(state, transaction) -> state, events."""

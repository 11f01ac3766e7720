"""The consensus core: Raft as a pure state machine."""

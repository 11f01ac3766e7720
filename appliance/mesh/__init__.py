"""The full mesh: typed messages between all members, as HTTP over mutual TLS 1.3."""

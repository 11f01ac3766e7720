"""The mesh: typed messages between nodes over mutual TLS."""

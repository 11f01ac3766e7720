"""Consensus on the wire: sealed UDP datagrams, and the driver that carries out what the core asks."""

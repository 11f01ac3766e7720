"""Consensus datagrams: UDP with authenticated encryption."""

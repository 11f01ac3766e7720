"""Whole nodes in virtual time: consensus, rounds and lineage together, with losses, cuts and crashes."""

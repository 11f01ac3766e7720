"""The composition root: one node, wired."""

"""Consensus (Raft): who leads, and which entries are committed. Pure: no I/O, clock, thread, logger or global state.

Sections and figures that docstrings here cite are those of Ongaro and Ousterhout, "In Search of an Understandable
Consensus Algorithm" (extended version, 2014; "paper") and of Ongaro's thesis, "Consensus: Bridging Theory and
Practice" (2014; "thesis").
"""

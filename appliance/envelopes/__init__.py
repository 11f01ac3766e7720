"""Sealed messages: only the recipient reads them, and nobody changes a byte unseen (docs/protocol.md, section 2).

Most callers need ``seal`` and ``open_envelope`` (to a recipient's RSA key), ``seal_under_key`` and ``open_under_key``
(a candidate, under the round key), and ``read_header`` to learn cheaply whom an envelope is for. ``format`` knows the
header and no cryptography, ``stream`` only the chunks, ``keys`` the keys' ids, ``pool`` makes reply keys ahead.
"""

"""Sealed messages: format, cryptography, keys."""

"""Measurements, and the script that makes the embedded data. Not part of the package."""

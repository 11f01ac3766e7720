"""Strategies that turn updates into a global model, over arrays; pure."""

"""Strategies that turn updates into a global model, over arrays; pure. Also the format of a model's bytes."""

"""PyTorch lives here: the network, the data, the training loop."""

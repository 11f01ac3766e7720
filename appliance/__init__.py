"""p2pfl-node: federated learning with no server to lose."""

__version__ = "0.1.0"

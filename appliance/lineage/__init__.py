"""The committed sequence of global models, pure."""

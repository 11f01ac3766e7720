"""The cluster's certificate authority and its certificates."""

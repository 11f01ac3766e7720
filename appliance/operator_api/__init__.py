"""The local operator API: status, lineage, elections, metrics."""

"""Who is who: the cluster's own certificate authority, a node's identity, and what a leader signs with it."""

"""How an envelope gets to the leader without showing where it comes from."""

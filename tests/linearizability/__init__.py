"""Whether what clients see of a replicated register, through crashes and cuts, could have been one register's doing."""

"""One-time tokens: each member's update counts once in a round, and the leader does not learn whose it is.

The leader signs one token for each member that asks, blindly (RFC 9474): it sees neither the token nor, when the token
comes back inside an update, for whom it was signed. ``blind`` is the scheme, ``mint`` the leader's side, ``wallet`` the
members'.
"""

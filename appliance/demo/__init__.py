"""The demonstration: five real nodes on loopback, one killed leader, and the tables that the paper prints."""

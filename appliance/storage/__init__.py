"""What a node makes durable: fsync of file and folder, atomic replace."""

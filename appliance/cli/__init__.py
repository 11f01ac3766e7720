"""The command line: parses, calls the node or the operator API, prints."""

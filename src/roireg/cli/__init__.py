"""The command-line interface `roireg`."""

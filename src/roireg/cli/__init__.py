"""The command `roireg`."""

"""The configuration as pydantic models: type, range, default and description of every key."""

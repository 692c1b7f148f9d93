"""Generates config.yaml, its JSON schema and its documentation from the models of the configuration."""

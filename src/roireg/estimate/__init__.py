"""Estimates the time and disk space of a workflow run from single steps measured on this machine."""

"""Readers of users' own files: CTs, label maps, X-rays."""

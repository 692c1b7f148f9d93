"""Checks that a dataset follows the documented conventions: tests CT, poses, labels and X-rays against each other."""

"""Frames, cameras and poses; the only package that converts the conventions of other systems."""

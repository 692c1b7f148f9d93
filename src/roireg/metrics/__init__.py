"""Similarities of images, errors of poses, and their statistics."""

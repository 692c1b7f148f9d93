"""Similarity of images, overlap of masks, errors of poses, and statistics of many registrations."""

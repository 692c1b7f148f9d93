"""Pose encoders: networks, trained for one patient before surgery, that estimate an X-ray's pose (paper, 2.1)."""

"""Training of segmenters and pose encoders: the common training loop, and the synthesis of DRRs as training data."""

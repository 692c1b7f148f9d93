"""What both kinds of networks share: the training loop, and DRRs to learn from."""

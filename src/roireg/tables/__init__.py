"""Tables of the paper, one module each."""

"""Random generators that depend on a seed and names, and not on the order of jobs."""

import hashlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """The random generator for one purpose, such as `generator(seed, specimen, "initial pose", projection)`."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, dtype=np.uint32).tolist()])

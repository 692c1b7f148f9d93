"""Intraoperative registration: initial poses, objectives, optimizers, and one X-ray's whole run."""

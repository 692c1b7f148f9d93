"""Registration of X-rays to a CT: initial poses, objectives, optimizers, and the verdict on the result."""

"""Differentiable rendering of X-rays from CT (DRRs) with interchangeable backends, and pixel weights from geometry."""

from roireg.drr.render import BACKENDS, project_mask, render, render_with_jacobian
from roireg.drr.weights import coverage, exclusion

__all__ = ["BACKENDS", "coverage", "exclusion", "project_mask", "render", "render_with_jacobian"]

"""Physical simulation of the demo's X-rays; it has no code in common with the renderer of DRRs."""

"""Physics of the demo's X-rays; it shares nothing with the renderer of DRRs."""

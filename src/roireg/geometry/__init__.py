"""Frames, cameras and poses; conventions of other systems are converted here and nowhere else."""

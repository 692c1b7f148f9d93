"""What a run will cost, from steps that are measured on this machine."""

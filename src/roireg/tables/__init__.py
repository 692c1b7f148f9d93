"""The tables of the workflow: the paper's Tables 1 to 3 and an ablation, one module for each."""

"""Support code of the Snakemake workflow: configuration, jobs, devices, code hashes."""

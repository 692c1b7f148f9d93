"""What the Snakemake workflow needs around the library: configuration, jobs, devices, code hashes."""

"""Join the registrations of a specimen that were divided among several jobs (`registration.xrays_per_job`).

Reads results/{dataset}/shards/. Writes results/{dataset}/registrations/{method}/{specimen}.csv and
results/{dataset}/traces/{method}/{specimen}.h5.
"""


rule gather:
    """Join the shards of one method's registrations of one specimen."""
    input:
        registrations=lambda wildcards: shards_of("registrations", "csv", wildcards),
        traces=lambda wildcards: shards_of("traces", "h5", wildcards),
    output:
        registrations=REGISTRATIONS,
        traces=TRACES,
    log:
        f"{LOGS}/gather/{{method}}/{{specimen}}.log",
    benchmark:
        f"{BENCHMARKS}/gather/{{method}}/{{specimen}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        code=code("gather"),
    script:
        "../workflow_scripts/gather.py"

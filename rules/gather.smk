"""With `registration.xrays_per_job`: the registrations of a specimen from the jobs that shared them.

Reads results/{dataset}/parts/. Writes results/{dataset}/registrations/{method}/{specimen}.csv and
results/{dataset}/traces/{method}/{specimen}.h5.
"""


rule gather:
    """One method's registrations of one specimen, put together."""
    input:
        registrations=lambda wildcards: parts_of("registrations", "csv", wildcards),
        traces=lambda wildcards: parts_of("traces", "h5", wildcards),
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

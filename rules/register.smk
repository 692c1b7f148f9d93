"""Registration: every method on every specimen.

Reads results/{dataset}/specimens/, encoders/ and segmenters/. Writes results/{dataset}/registrations/{method}/{specimen}.csv
and results/{dataset}/traces/{method}/{specimen}.h5. With `registration.xrays_per_job`, several jobs each write a part of
them (a shard) to results/{dataset}/shards/, and rules/gather.smk joins them.
"""

PAIR_ROI = config["tables"]["table3"]["roi"]
# Names of the methods that the rule `register_pair` runs.
PAIRED = rf"table3\.[a-z_]+(\+{re.escape(PAIR_ROI)})?(@\d+)?"


rule register:
    """Register all X-rays of one specimen, or a shard of them, by one method."""
    input:
        unpack(lambda wildcards: networks_for([wildcards.method], wildcards)),
        specimen=rules.prepare_specimen.output,
    output:
        registrations=[f"{JOBS}/registrations/{{method}}/{{specimen}}{SHARD}.csv"],
        traces=[f"{JOBS}/traces/{{method}}/{{specimen}}{SHARD}.h5"],
    log:
        f"{LOGS}/register/{{method}}/{{specimen}}{SHARD}.log",
    benchmark:
        f"{BENCHMARKS}/register/{{method}}/{{specimen}}{SHARD}.tsv"
    wildcard_constraints:
        method=rf"(?!{PAIRED}/)[^/]+",
    # Before trainings, so that methods without networks give first results within minutes.
    priority: 10
    conda:
        ENVIRONMENT
    # On two cores, two jobs at once are faster than one job with two threads.
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: plan.registration_memory(
            config, [wildcards.method], attempt
        ),
        runtime=1440,
        gpu=lambda wildcards: plan.gpus_of(config, [wildcards.method]),
        # Number of X-rays that a GPU optimizes at once.
        xrays_together=lambda wildcards: plan.xrays_together(config, [wildcards.method]),
    params:
        methods=lambda wildcards: {
            wildcards.method: plan.method_settings(config, wildcards.method)
        },
        xrays=lambda wildcards: config["methods"][wildcards.method].get("xrays"),
        shard=lambda wildcards: getattr(wildcards, "shard", None),
        segmenters=lambda wildcards: plan.segmenters_for(config, [wildcards.method]),
        # Only methods with a ROI term depend on the ROIs.
        rois=lambda wildcards: (
            config["rois"] if plan.segmenters_for(config, [wildcards.method]) else []
        ),
        render=config["render"],
        seed=config["seed"],
        code=code("register"),
    script:
        "../workflow_scripts/register.py"


# Both methods of a row of Table 3 in one job: they have few X-rays, and imports take as long as the registrations.
use rule register as register_pair with:
    input:
        unpack(lambda wildcards: networks_for(pair_of(wildcards), wildcards)),
        specimen=rules.prepare_specimen.output,
    output:
        registrations=[
            f"{JOBS}/registrations/table3.{{similarity}}{{start}}/{{specimen}}{SHARD}.csv",
            f"{JOBS}/registrations/table3.{{similarity}}+{PAIR_ROI}{{start}}/{{specimen}}{SHARD}.csv",
        ],
        traces=[
            f"{JOBS}/traces/table3.{{similarity}}{{start}}/{{specimen}}{SHARD}.h5",
            f"{JOBS}/traces/table3.{{similarity}}+{PAIR_ROI}{{start}}/{{specimen}}{SHARD}.h5",
        ],
    log:
        f"{LOGS}/register_pair/{{similarity}}{{start}}/{{specimen}}{SHARD}.log",
    benchmark:
        f"{BENCHMARKS}/register_pair/{{similarity}}{{start}}/{{specimen}}{SHARD}.tsv"
    wildcard_constraints:
        similarity=r"[a-z_]+",
        start=r"(@\d+)?",
    resources:
        mem_mb=lambda wildcards, attempt: plan.registration_memory(
            config, pair_of(wildcards), attempt
        ),
        runtime=2880,
        gpu=lambda wildcards: plan.gpus_of(config, pair_of(wildcards)),
        xrays_together=lambda wildcards: plan.xrays_together(config, pair_of(wildcards)),
    params:
        methods=lambda wildcards: {
            method: plan.method_settings(config, method)
            for method in pair_of(wildcards)
        },
        xrays=config["tables"]["table3"]["xrays_per_specimen"],
        segmenters=lambda wildcards: plan.segmenters_for(config, pair_of(wildcards)),
        rois=config["rois"],


rule registrations:
    input:
        everywhere(
            expand(
                REGISTRATIONS,
                method=config["methods"],
                specimen=SPECIMENS,
                allow_missing=True,
            )
        ),

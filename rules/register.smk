"""Intraoperative registration: every method on every specimen.

Reads results/{dataset}/specimens/, encoders/ and segmenters/. Writes results/{dataset}/registrations/{method}/{specimen}.csv
and results/{dataset}/traces/{method}/{specimen}.h5; with `registration.xrays_per_job`, parts of them under
results/{dataset}/parts/, which rules/gather.smk puts together.
"""

PAIR_ROI = config["tables"]["table3"]["roi"]
# Methods that `register_pair` runs.
PAIRED = rf"table3\.[a-z_]+(\+{re.escape(PAIR_ROI)})?(@\d+)?"


rule register:
    """One method on all X-rays of one specimen, or a part of them."""
    input:
        unpack(lambda wildcards: networks_for([wildcards.method], wildcards)),
        specimen=rules.prepare_specimen.output,
    output:
        registrations=[f"{JOBS}/registrations/{{method}}/{{specimen}}{PART}.csv"],
        traces=[f"{JOBS}/traces/{{method}}/{{specimen}}{PART}.h5"],
    log:
        f"{LOGS}/register/{{method}}/{{specimen}}{PART}.log",
    benchmark:
        f"{BENCHMARKS}/register/{{method}}/{{specimen}}{PART}.tsv"
    wildcard_constraints:
        method=rf"(?!{PAIRED}/)[^/]+",
    # Before trainings: methods that need no network give the first figures within minutes.
    priority: 10
    conda:
        ENVIRONMENT
    # Two jobs side by side on two cores do more than two threads of one.
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: plan.registration_memory(
            config, [wildcards.method], attempt
        ),
        runtime=1440,
        gpu=lambda wildcards: plan.gpus_of(config, [wildcards.method]),
        # On a GPU, so many X-rays at once.
        xrays_together=lambda wildcards: plan.xrays_together(config, [wildcards.method]),
    params:
        methods=lambda wildcards: {
            wildcards.method: plan.method_settings(config, wildcards.method)
        },
        xrays=lambda wildcards: config["methods"][wildcards.method].get("xrays"),
        part=lambda wildcards: getattr(wildcards, "part", None),
        segmenters=lambda wildcards: plan.segmenters_for(config, [wildcards.method]),
        # Only a ROI term looks at them.
        rois=lambda wildcards: (
            config["rois"] if plan.segmenters_for(config, [wildcards.method]) else []
        ),
        render=config["render"],
        seed=config["seed"],
        code=code("register"),
    script:
        "../workflow_scripts/register.py"


# Both methods of a row of Table 3 in one job: few X-rays each, and what they load takes as long as they do.
use rule register as register_pair with:
    input:
        unpack(lambda wildcards: networks_for(pair_of(wildcards), wildcards)),
        specimen=rules.prepare_specimen.output,
    output:
        registrations=[
            f"{JOBS}/registrations/table3.{{similarity}}{{start}}/{{specimen}}{PART}.csv",
            f"{JOBS}/registrations/table3.{{similarity}}+{PAIR_ROI}{{start}}/{{specimen}}{PART}.csv",
        ],
        traces=[
            f"{JOBS}/traces/table3.{{similarity}}{{start}}/{{specimen}}{PART}.h5",
            f"{JOBS}/traces/table3.{{similarity}}+{PAIR_ROI}{{start}}/{{specimen}}{PART}.h5",
        ],
    log:
        f"{LOGS}/register_pair/{{similarity}}{{start}}/{{specimen}}{PART}.log",
    benchmark:
        f"{BENCHMARKS}/register_pair/{{similarity}}{{start}}/{{specimen}}{PART}.tsv"
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

"""Intraoperative registration: every method on every specimen.

Reads results/{dataset}/specimens/, encoders/ and segmenters/. Writes results/{dataset}/registrations/{method}/{specimen}.csv
and results/{dataset}/traces/{method}/{specimen}.h5.
"""


rule register:
    """One method on all X-rays of one specimen."""
    input:
        unpack(start_data),
        unpack(roi_data),
        specimen=rules.prepare_specimen.output,
    output:
        registrations=f"{OUT}/registrations/{{method}}/{{specimen}}.csv",
        traces=f"{OUT}/traces/{{method}}/{{specimen}}.h5",
    log:
        f"{LOGS}/register/{{method}}/{{specimen}}.log",
    benchmark:
        f"{BENCHMARKS}/register/{{method}}/{{specimen}}.tsv"
    # Before trainings: methods that need no network give the first figures within minutes.
    priority: 10
    conda:
        ENVIRONMENT
    # Two jobs side by side on two cores do more than two threads of one.
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
        gpu=0,
    params:
        settings=method_settings,
        xrays=lambda wildcards: config["methods"][wildcards.method].get("xrays"),
        segmenters=lambda wildcards: roi_segmenters(wildcards.method),
        # Only a ROI term looks at them.
        rois=lambda wildcards: (
            config["rois"] if roi_segmenters(wildcards.method) else []
        ),
        render=config["render"],
        seed=config["seed"],
        code=code("register"),
    script:
        "../workflow_scripts/register.py"


rule registrations:
    input:
        expand(rules.register.output, method=config["methods"], specimen=SPECIMENS),

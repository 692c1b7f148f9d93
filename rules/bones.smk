"""Bones that moved on their own since the CT, registered from a method's poses of the whole CT.

Reads the dataset (X-rays at full size), results/{dataset}/specimens/ and registrations/. Writes
results/{dataset}/bones/{method}/{specimen}.csv.
"""


rule register_bones:
    """Register bones in all X-rays of one specimen, from the poses that one method found."""
    input:
        dataset=rules.prepare_specimen.input.dataset,
        specimen=rules.prepare_specimen.output[0],
        registrations=REGISTRATIONS,
    output:
        f"{OUT}/bones/{{method}}/{{specimen}}.csv",
    log:
        f"{LOGS}/register_bones/{{method}}/{{specimen}}.log",
    benchmark:
        f"{BENCHMARKS}/register_bones/{{method}}/{{specimen}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: plan.registration_memory(
            config, [wildcards.method], attempt
        ),
        runtime=1440,
        gpu=0,
    params:
        bones=plan.bone_settings(config),
        prepare=config["prepare"],
        seed=config["seed"],
        code=code("register_bones"),
    script:
        "../workflow_scripts/register_bones.py"

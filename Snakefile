"""roireg: regenerates the tables and figures of ROI-guided 2D/3D registration (WSReg, MICCAI 2025)."""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.12")

DEFAULTS = Path(workflow.basedir) / "config.yaml"


# Beside this file, as a run may have its results elsewhere (`--directory`).
configfile: str(DEFAULTS)


if Path("config.yaml").exists() and not DEFAULTS.samefile("config.yaml"):

    configfile: "config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/space.smk"
include: "rules/check.smk"
include: "rules/check_parts.smk"
include: "rules/synthesize.smk"
include: "rules/segment.smk"
include: "rules/encode.smk"
include: "rules/register.smk"


if SHARED:

    include: "rules/gather.smk"


include: "rules/bones.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/report_parts.smk"
include: "rules/report.smk"
include: "rules/estimate_parts.smk"
include: "rules/estimate.smk"


# Downloads run where the workflow was started, because compute nodes of a cluster often have no access to the internet.
localrules:
    download_demo_ct,
    download_deepfluoro,
    all,
    data,
    registrations,
    tables,
    figures,


rule all:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,
        rules.report_html.output,
        rules.check_dataset.output if CHECKED else [],

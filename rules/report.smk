"""The report: one self-contained page.

Reads results/{dataset}/specimens/, tables/, figures/, registrations/, traces/ and metrics of trainings. Writes
results/{dataset}/report.html.
"""

REPORT_TABLES = report_tables()
REPORT_FIGURES = report_figures()
REPORT_TRAININGS = report_trainings()


rule report_html:
    """Tables, figures, X-rays, run times, versions and settings on one page."""
    input:
        specimens=expand(rules.prepare_specimen.output, specimen=SPECIMENS),
        tables=list(REPORT_TABLES.values()),
        figures=[path for path, _ in REPORT_FIGURES.values()],
        registrations=expand(
            REGISTRATIONS,
            method=TABLE1_METHODS,
            specimen=SPECIMENS,
        ),
        traces=expand(TRACES, method=TABLE1_METHODS, specimen=SPECIMENS),
        metrics=[path for _, path in REPORT_TRAININGS],
    output:
        report(
            f"{OUT}/report.html",
            caption="../report/every_xray.rst",
            category="X-rays",
            labels={"content": "tables, figures, and a gallery of X-rays"},
        ),
    log:
        f"{LOGS}/report_html.log",
    benchmark:
        f"{BENCHMARKS}/report_html.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
        gpu=0,
    params:
        title=DATASET,
        labels=labels_of(TABLE1_METHODS),
        tables=list(REPORT_TABLES),
        figures=[(title, text) for title, (_, text) in REPORT_FIGURES.items()],
        traces=[
            f"{method}/{specimen}"
            for method in TABLE1_METHODS
            for specimen in SPECIMENS
        ],
        trainings=[label for label, _ in REPORT_TRAININGS],
        xrays_per_specimen=config["report"]["xrays_per_specimen"],
        settings=SETTINGS,
        code=code("report_html"),
    script:
        "../workflow_scripts/report_html.py"

"""The self-contained HTML report.

Reads results/{dataset}/specimens/, tables/, figures/, registrations/, traces/ and metrics of trainings. Writes
results/{dataset}/report.html.
"""

REPORT_TABLES = report_tables()
REPORT_FIGURES = report_figures()
REPORT_TRAININGS = report_trainings()


rule report_html:
    """Write tables, figures, X-rays, run times, versions and settings to one HTML page."""
    input:
        specimens=everywhere(
            expand(
                rules.prepare_specimen.output, specimen=SPECIMENS, allow_missing=True
            )
        ),
        tables=[path for _, path in REPORT_TABLES],
        figures=[path for _, path, _ in REPORT_FIGURES],
        registrations=[path for _, path in report_files(REGISTRATIONS)],
        traces=[path for _, path in report_files(TRACES)],
        metrics=[path for _, path in REPORT_TRAININGS],
    output:
        report(
            f"results/{DATASET}/report.html",
            caption="../report/every_xray.rst",
            category="X-rays",
            labels={"content": "tables, figures, and a gallery of X-rays"},
        ),
    log:
        f"results/{DATASET}/logs/report_html.log",
    benchmark:
        f"results/{DATASET}/benchmarks/report_html.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
        gpu=0,
    params:
        title=DATASET,
        labels=plan.labels_of(config, TABLE1_METHODS),
        tables=[title for title, _ in REPORT_TABLES],
        figures=[(title, text) for title, _, text in REPORT_FIGURES],
        # With conditions, specimens are named condition/specimen.
        specimens=shown_specimens(),
        registrations=[specimen for specimen, _ in report_files(REGISTRATIONS)],
        trainings=[label for label, _ in REPORT_TRAININGS],
        xrays_per_specimen=config["report"]["xrays_per_specimen"],
        settings=SETTINGS,
        code=code("report_html"),
    script:
        "../workflow_scripts/report_html.py"

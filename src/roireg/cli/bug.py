"""`roireg report-bug`: what the maintainers need to know, without pixels, names or paths."""

from pathlib import Path
from typing import Annotated

import typer

from roireg.cli.common import ConfigOption, one_line_errors, out


def report_bug(
    pose: Annotated[Path | None, typer.Argument(help="pose.json of the result that looks wrong.")] = None,
    config: ConfigOption = None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: print it.")] = None,
) -> None:
    """Describe installation, device, settings and geometry for a bug report: no pixels, no names, no paths."""
    with one_line_errors():
        import yaml

        from roireg.data.writers.poses import read_pose
        from roireg.files import atomic_path
        from roireg.report.bug_report import bug_report
        from roireg.workflow.config import default_config

        entries = None if pose is None else read_pose(pose).entries
        settings = None if config is None else default_config(config)
        report = bug_report(entries, settings, None if settings is None else default_config(None))
        text = yaml.safe_dump(report, sort_keys=False, allow_unicode=True, width=120)
        if output is None:
            print(text, end="")
            return
        with atomic_path(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
        out.print(f"{output}: read it before you send it", markup=False)

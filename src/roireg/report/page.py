"""The self-contained HTML report: a jinja2 template with style, script and images embedded in the file."""

import base64
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup

from roireg.report.gallery import Gallery

PACKAGES = ("roireg", "snakemake", "torch", "monai", "segment-anything", "diffdrr", "numba", "numpy", "pandas")


@dataclass(frozen=True)
class Section:
    """A table or figure of the report: title, caption and HTML."""

    title: str
    caption: str
    body: Markup


def table_section(title: str, markdown: str) -> Section:
    """A section from a table that the workflow wrote as Markdown, with its notes below."""
    return Section(title, "", Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)))


def figure_section(title: str, caption: str, path: str | Path) -> Section:
    """A section from a PNG figure, embedded in the page."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    image = Markup('<img alt="{}" src="data:image/png;base64,{}">').format(title, data)
    return Section(title, caption, image)


def which_are_shown(pictured: int, total: int) -> str:
    """Which of `total` X-rays the gallery shows, as a sentence or three."""
    if pictured == total:
        return f"All {total} X-rays, registered by every method of Table 1."
    return (
        f"{pictured} of {total} X-rays, registered by every method of Table 1. They are evenly spaced from the best to "
        "the worst of each specimen, by the median mpd over the methods (config key report.xrays_per_specimen). Tables "
        "and figures include all X-rays."
    )


def training_seconds(names: Sequence[str], metrics: Sequence[str | Path]) -> dict[str, list[float]]:
    """Seconds of each training, by name of the network, from the files `metrics.json` of the trainings."""
    seconds: dict[str, list[float]] = {}
    for name, path in zip(names, metrics, strict=True):
        seconds.setdefault(name, []).append(json.loads(Path(path).read_text(encoding="utf-8"))["seconds"])
    return seconds


def run_times(registrations: pd.DataFrame, trainings: dict[str, list[float]], labels: dict[str, str]) -> pd.DataFrame:
    """Table of run times: number, median and longest, of trainings (per specimen) and registrations (per X-ray).

    Args:
        registrations: rows of all methods.
        trainings: seconds of each training, by name of the network.
        labels: label by method.
    """
    registered = {
        label: registrations.loc[registrations["method"] == method, "seconds"].tolist()
        for method, label in labels.items()
    }
    groups = [("training", trainings), ("registration of an X-ray", registered)]
    return pd.DataFrame(
        {
            "step": step,
            "name": name,
            "runs": len(seconds),
            "median s": f"{pd.Series(seconds).median():.1f}",
            "longest s": f"{max(seconds):.1f}",
        }
        for step, runs in groups
        for name, seconds in runs.items()
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results, and a description of the machine."""
    known = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            known[name] = "not installed as a package"
    return known | {"system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"}


def page(
    title: str,
    tables: list[Section],
    figures: list[Section],
    gallery: Gallery,
    shown: str,
    times: pd.DataFrame,
    settings: str,
) -> str:
    """The report as one HTML document.

    Args:
        title: name of the dataset.
        tables, figures: sections, in the order in which they are shown.
        gallery: pictures of X-rays.
        shown: a sentence that says which X-rays the gallery contains.
        times: table made by `run_times`.
        settings: the configuration, as YAML.
    """
    environment = Environment(loader=PackageLoader("roireg.report", "."), autoescape=select_autoescape(["html"]))
    # Escaped so that a name with "</script>" cannot close the script element.
    data = json.dumps(gallery.as_json(), allow_nan=False).replace("<", "\\u003c")
    return environment.get_template("page.html").render(
        title=title,
        tables=tables,
        figures=figures,
        shown=shown,
        times=times.to_dict("records"),
        columns=list(times.columns),
        versions=versions(),
        settings=settings,
        data=Markup(data),
        methods={entry.method: entry.label for entry in gallery.entries},
        style=Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8")),
        script=Markup(Path(__file__).with_name("page.js").read_text(encoding="utf-8")),
    )

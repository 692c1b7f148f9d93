"""Hooks of mkdocs: files of the repository that lie outside docs/ become pages, and links are made to fit."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Pages of the site, by the file of the repository that each is made of; files that are only linked keep their names.
PAGES = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINKED = ("config.yaml", "config/deepfluoro.yaml", "CITATION.cff", "LICENSE")
FOLDERS = {".github/ISSUE_TEMPLATE": "contributing.md"}
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the files that lie outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for name in LINKED:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are in the repository, made to lead to pages of the site."""
    here = page.file.src_uri
    source = next((file for file, made in PAGES.items() if made == here), f"docs/{here}")

    def fitted(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        # From the root of the repository.
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        target = PAGES.get(target) or FOLDERS.get(target) or target.removeprefix("docs/")
        return f"]({posixpath.relpath(target, posixpath.dirname(here) or '.')}{anchor})"

    return LINK.sub(fitted, markdown)

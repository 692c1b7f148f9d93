"""`python -m roireg.workflow.config_files` generates the files; with `--check` it only reports which are outdated."""

import sys
from pathlib import Path

from roireg.workflow.config_files.documentation import documentation
from roireg.workflow.config_files.json_schema import json_schema
from roireg.workflow.config_files.yaml_file import config_yaml

WRITERS = {
    "config.yaml": config_yaml,
    "config/config.schema.yaml": json_schema,
    "docs/configuration.md": documentation,
}


def outdated(root: Path) -> dict[Path, str]:
    """The generated files of a checkout that are missing or outdated, with the text that they should have."""
    texts = {root / name: write() for name, write in WRITERS.items()}
    return {path: text for path, text in texts.items() if not path.is_file() or path.read_text() != text}


def main() -> int:
    root = Path.cwd()
    files = outdated(root)
    check = "--check" in sys.argv[1:]
    for path, text in files.items():
        print(f"{'outdated, run `make config`' if check else 'written'}: {path.relative_to(root)}")
        if not check:
            path.write_text(text)
    return int(check and bool(files))


if __name__ == "__main__":
    sys.exit(main())

"""Follows a page of docs/tutorials as a reader does: writes its files, types its commands, compares what they print.

What each block of code of a page is:

- `sh`: commands, typed in the folder where the last ones ended;
- `sh` with a title: commands that a test cannot execute; the title tells readers what they need. A test names them;
- any other with a title: a file of that name, written to that folder;
- `text`: lines that the commands before it have printed, in this order. … stands for anything, and so does a
  number with a decimal point for any number.
"""

import re
import resource
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wheel_environment import Environment
from workflows import REPOSITORY

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
DECIMAL = re.compile(r"\d+\.\d+")
WHERE = "where.txt"


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """Those of a page of docs/tutorials, in their order."""
    text = (REPOSITORY / "docs" / "tutorials" / f"{page}.md").read_text(encoding="utf-8")
    found = [Block(*one) for one in BLOCK.findall(text)]
    assert len(found) == text.count("```") / 2, "a block of code that is none of those that a page may have"
    return found


def commands(text: str) -> list[str]:
    """The lines of a block without comments."""
    lines = (line.partition("  #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def follow(page: str, environment: Environment, instead: Mapping[str, Callable[[Path], None] | None]) -> Path:
    """Do what a page says.

    Args:
        page: name of the page.
        environment: the programs that its reader has installed, and the folder in which they begin.
        instead: the commands of the page that are not executed, all of them and in their order, each with what is done
            in its place in the folder where it would have been typed.

    Returns:
        The folder in which the reader ends.
    """
    folder, printed, left_out = environment.work, "", []
    for block in blocks(page):
        if block.language == "sh" and block.title:
            for command in commands(block.text):
                left_out.append(command)
                assert command in instead, f"{page}: not executed: {command}"
                if (act := instead[command]) is not None:
                    act(folder)
        elif block.language == "sh":
            folder, printed = type_in(environment, folder, block.text)
        elif block.language == "text":
            assert_printed(page, block.text, printed)
        else:
            assert block.title, f"{page}: neither a file nor a command: {block.text}"
            (folder / block.title).write_text(block.text, encoding="utf-8")
    assert left_out == list(instead)
    return folder


def type_in(environment: Environment, folder: Path, text: str) -> tuple[Path, str]:
    """Type commands in a folder, which must succeed; the folder after them, and what they printed."""
    where = environment.work.parent / f"{environment.work.name}-{WHERE}"
    script = f"set -euo pipefail\n{text}\npwd > '{where}'\n"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:6.1f} s of a core: {'; '.join(commands(text))}")
    assert done.returncode == 0, f"{text}\n{done.stdout}"
    return Path(where.read_text().strip()), done.stdout


def assert_printed(page: str, shown: str, printed: str) -> None:
    """The lines that a page shows are among those that were printed, in this order."""
    waiting = [" ".join(line.split()) for line in printed.splitlines()]
    for line in shown.splitlines():
        pattern = re.compile(_pattern(" ".join(line.split())))
        while waiting and not pattern.fullmatch(waiting[0]):
            waiting.pop(0)
        assert waiting, f"{page}: this was not printed: {line}\n{printed}"
        waiting.pop(0)


def _pattern(line: str) -> str:
    parts = (DECIMAL.sub("\0", part) for part in line.split("…"))
    return ".*".join(re.escape(part).replace("\0", r"\d+(?:\.\d+)?") for part in parts)

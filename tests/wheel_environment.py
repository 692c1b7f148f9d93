"""The wheel in empty environments, outside the checkout.

An environment has the packages that the wheel's own metadata ask for and no others, linked from this one: as after
`pip install`, without downloading them again.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from workflows import REPOSITORY

SITE = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
HIDDEN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a folder to work in."""

    folder: Path
    work: Path

    def variables(self) -> dict[str, str]:
        """Those of a process that sees this environment, and not this checkout."""
        kept = {key: value for key, value in os.environ.items() if key not in HIDDEN}
        return {**kept, "PATH": f"{self.folder / 'bin'}{os.pathsep}{kept['PATH']}"}

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess:
        """Call a program of the environment."""
        command = [str(self.folder / "bin" / program), *map(str, arguments)]
        return subprocess.run(command, cwd=self.work, env=self.variables(), capture_output=True, text=True)

    def working_in(self, folder: Path) -> "Environment":
        """The same environment with another folder to work in."""
        return replace(self, work=folder)


def built(source: Path, target: str, folder: Path) -> Path:
    """The sdist or wheel that hatchling makes of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


def build_wheel(folder: Path) -> Path:
    """Made from the sdist, as a package index' users may do: so that file is complete too."""
    with tarfile.open(built(REPOSITORY, "sdist", folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return built(source, "wheel", folder)


def wanted(lines: list[str], extras: frozenset[str]) -> Iterator[Requirement]:
    """Those of a package's requirements that hold here, with some of its extras."""
    for line in lines:
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield one


def closure(wheel: Path, extras: frozenset[str]) -> list[Distribution]:
    """What a wheel needs with some extras, and what that needs in turn, as installed here."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        own = re.findall(r"^Requires-Dist: (.+)$", archive.read(name).decode(), re.MULTILINE)
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(wanted(own, extras))
    while waiting:
        one = waiting.pop()
        name, of_it = canonicalize_name(one.name), frozenset(one.extras)
        if (name, of_it) in seen:
            continue
        seen.add((name, of_it))
        if name == "roireg":
            waiting += wanted(own, of_it)
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            # Such as the CUDA libraries of torch, beside its build for the CPU.
            continue
        waiting += wanted(found[name].requires or [], of_it)
    return [*found.values()]


def link(packages: list[Distribution], environment: Path) -> None:
    """Put the files of packages into an environment as links, and make their commands run its interpreter."""
    for package in packages:
        root = Path(str(package.locate_file("")))
        for top in {Path(file).parts[0] for file in package.files or [] if Path(file).parts[0] not in ("..", "/")}:
            target = environment / SITE / top
            if not target.exists() and (root / top).exists():
                target.symlink_to(root / top)
        for command in package.entry_points.select(group="console_scripts"):
            script = environment / "bin" / command.name
            module, _, function = command.value.partition(":")
            script.write_text(f"#!{environment}/bin/python\nimport sys\nfrom {module} import {function}\n")
            script.write_text(f"{script.read_text()}sys.exit({function}())\n")
            script.chmod(0o755)


def environment_with(wheel: Path, folder: Path, extras: frozenset[str]) -> Environment:
    """An empty environment in which the wheel is installed with some of its extras."""
    venv.create(folder / "env", symlinks=True)
    link(closure(wheel, extras), folder / "env")
    uv = Path(sys.executable).with_name("uv")
    install = [str(uv) if uv.exists() else "uv", "pip", "install", "--offline", "--quiet", "--no-deps"]
    # A copy of its own, as times are changed below.
    install += ["--link-mode", "copy", "--python"]
    install += [str(folder / "env" / "bin" / "python"), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    take_compiled(folder / "env" / SITE)
    (folder / "work").mkdir()
    return Environment(folder / "env", folder / "work")


def take_compiled(site: Path) -> None:
    """Give installed modules what Numba has compiled of the same modules here, which takes half a minute to do again.

    Numba knows the source by its time and size.
    """
    for index in (REPOSITORY / "src").rglob("*.nbi"):
        ours = index.parents[1] / f"{index.name.partition('.')[0]}.py"
        theirs = site / ours.relative_to(REPOSITORY / "src")
        if theirs.exists() and theirs.read_bytes() == ours.read_bytes():
            os.utime(theirs, ns=(time := ours.stat().st_mtime_ns, time))
            cache = theirs.parent / "__pycache__"
            cache.mkdir(exist_ok=True)
            for path in (*index.parent.glob(f"{glob.escape(index.stem)}.*.nbc"), index):
                shutil.copy2(path, cache)

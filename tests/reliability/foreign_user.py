"""Commands as uid 65534 with a read-only root, without a home and without an engine of containers.

In a mount namespace of its own everything is mounted read-only but a work folder and a new `/tmp`, as a container with
`--read-only` has it. Only root can make one.

`python -m reliability.foreign_user`, with `src` and `tests` on the path, runs `config/smoke.yaml` so, end to end.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from workflows import REPOSITORY

USER = 65534
# An empty folder of every Linux, into which the work folder and the workflow are mounted.
MOUNTS = Path("/srv")
WORK, WORKFLOW = MOUNTS / "work", MOUNTS / "roireg"
# What the kernel gives, and `/dev`, are as in every container.
KEPT = ("/proc", "/sys", "/dev")
# The environment itself, where a link leads to it.
PREFIX = Path(sys.prefix).resolve()
PROBES = ("/touched", "/usr/touched", "/var/touched", f"{WORKFLOW}/touched", f"{PREFIX}/touched")
# How many threads, and how this machine reaches the network.
HANDED_ON = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
HANDED_ON += ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
REPORT = "results/smoke/report.html"


def run_as_foreign_user(work: Path, command: Sequence[str], timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command in `WORK`, which is the folder `work`, with the workflow and its library in `WORKFLOW`.

    Args:
        work: given to the user 65534; the only folder of this machine that the command can write to.
        command: its arguments.
        timeout_s: the limit of its time, s.
    """
    os.chown(work, USER, USER)
    inside = [sys.executable, "-B", str(Path(__file__).resolve()), "--inside", str(work), "--", *command]
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", *inside],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def why_not() -> str | None:
    """Why this machine allows no such namespace; None if it does."""
    if os.getuid() != 0:
        return "only root can become another user"
    try:
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", "true"], capture_output=True)
    except FileNotFoundError:
        return "unshare is not installed"
    return "mounting is not allowed here" if done.returncode else None


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _closed(path: Path) -> Path | None:
    """The topmost folder above a path that others cannot enter."""
    return next((one for one in reversed(path.parents) if not one.stat().st_mode & 0o001), None)


def _show(paths: Iterable[Path], hidden: Path, stash: Path) -> None:
    """Mount an empty folder that all can enter over `hidden`, and of what it held only `paths`."""
    within = [path for path in paths if path.is_relative_to(hidden)]
    for number, path in enumerate(within):
        (stash / str(number)).mkdir(parents=True)
        _mount("--bind", str(path), str(stash / str(number)))
    _mount("-t", "tmpfs", "-o", "mode=1777" if hidden == Path("/tmp") else "mode=755", "tmpfs", str(hidden))
    for number, path in enumerate(within):
        path.mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(stash / str(number)), str(path))


def _mount_points() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(line.split()[4].encode().decode("unicode_escape") for line in lines))


def _enter(work: Path, command: Sequence[str]) -> None:
    """Make the namespace, and become the command; never returns."""
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(MOUNTS))
    stash = MOUNTS / "stash"
    for source, target in ((work, WORK), (REPOSITORY, WORKFLOW)):
        target.mkdir()
        _mount("--bind", str(source), str(target))
    # The interpreter may lie in a home or in a temporary folder.
    needed = {PREFIX, Path(sys.base_prefix).resolve()}
    needed = {one for one in needed if not any(one != other and one.is_relative_to(other) for other in needed)}
    hidden = {one for path in needed if (one := _closed(path)) is not None}
    for number, folder in enumerate([*sorted(hidden), Path("/tmp")]):
        _show(needed, folder, stash / str(number))
    for point in _mount_points():
        # Not those that another one covers now.
        if point not in (str(WORK), "/tmp") and not point.startswith(KEPT) and Path(point).exists():
            _mount("-o", "remount,bind,ro", point)
    for probe in PROBES:
        try:
            Path(probe).touch()
        except OSError:
            continue
        raise SystemExit(f"error: {probe} could be written although all is read-only")
    os.chdir(WORK)
    handed_on = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    environment = {
        "PATH": f"{PREFIX}/bin:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{WORKFLOW}/src",
        # Snakemake has no other way to live without a home; the image sets it too.
        "XDG_CACHE_HOME": "/tmp/cache",
        "LC_ALL": "C",
        **handed_on,
    }
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
    os.execvpe(become[0], [*become, "--bounding-set=-all", *command], environment)


def smoke(work: Path, *more: str, timeout_s: float = 3600) -> subprocess.CompletedProcess[str]:
    """`config/smoke.yaml`, end to end unless `more` says otherwise, with results in `work`."""
    command = ["snakemake", "--snakefile", f"{WORKFLOW}/Snakefile", "--directory", str(WORK), "--cores", "2"]
    return run_as_foreign_user(work, [*command, *more, "--configfile", f"{WORKFLOW}/config/smoke.yaml"], timeout_s)


def main() -> int:
    """Run the smoke configuration and print whether it ended with a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        _enter(options.inside, options.command)
    reason = why_not()
    if reason is not None:
        print(f"smoke run as uid {USER} with a read-only root and no home: not run, {reason}")
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="roireg-foreign-") as name:
        done = smoke(Path(name))
        report = Path(name) / REPORT
        right = done.returncode == 0 and report.exists() and report.stat().st_uid == USER
    if not right:
        print(done.stdout[-3000:] + done.stderr[-3000:], file=sys.stderr)
    told = "ended with its report" if right else f"FAILED with status {done.returncode}"
    print(f"smoke run as uid {USER} with a read-only root and no home: {told} ({time.monotonic() - began:.0f} s)")
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())

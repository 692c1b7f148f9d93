"""What a bug report needs: versions, device, settings and the geometry of a result; no pixels, names or paths.

Only what is listed here gets in. Numbers are taken over; of words, those that the library itself has; what a user may
have named (files, labels, methods, folders) is replaced by its kind.
"""

import getpass
import os
import platform
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import psutil

from roireg import __version__

NAMED, PATH = "<name>", "<path>"
# Entries of pose.json (docs/results.md) that hold numbers, or words of this library.
ENTRIES = (
    "roireg",
    "verdict",
    "volume_from_camera",
    "camera",
    "camera_of_the_stored_image",
    "evidence",
    "uncertainty",
    "covariance",
    "seconds",
)
# Entries that hold sentences, in which names are replaced, and those that hold names.
SENTENCES = ("reasons", "warnings")
NAMES = ("ct", "xray", "views_registered_together", "bones", "method")
PATHS = re.compile(r"\S*[/\\]\S*")
QUOTED = re.compile(r"""(?<!\w)(['"]).*?\1(?!\w)""")
# Shorter words would be found within others.
SHORTEST_NAME = 3


def bug_report(
    pose: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report, of plain values.

    Args:
        pose: entries of a pose.json, or None.
        config: a configuration, or None.
        defaults: the default one, with which it is compared and whose words are kept.
    """
    report: dict[str, Any] = {"roireg": __version__, "machine": machine(), "packages": packages()}
    if config is not None:
        report["config, where it differs from the default"] = changed(config, defaults or {})
    if pose is not None:
        report["result"] = of_result(pose)
    return report


def machine() -> dict[str, Any]:
    """Python, the system, cores, memory and GPUs."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": _gpus(),
    }


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def packages() -> dict[str, str]:
    """Versions of what is required, with all extras; "missing" for what is not installed."""
    found = {}
    try:
        wanted = requires("roireg") or []
    except PackageNotFoundError:
        # A checkout that is run without being installed.
        wanted = []
    for requirement in wanted:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        if name != "roireg":
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "missing"
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def changed(config: Any, defaults: Any) -> Any:
    """Keys of a configuration whose values are not the default ones; words that are no default anywhere are hidden."""
    return _changed(config, defaults, _words(defaults))


def _changed(config: Any, defaults: Any, known: set[str]) -> Any:
    if isinstance(config, Mapping):
        below = defaults if isinstance(defaults, Mapping) else {}
        differs = {key: value for key, value in config.items() if key not in below or below[key] != value}
        out: dict[str, Any] = {}
        for key, value in differs.items():
            shown = key if key in known else NAMED
            while shown in out:
                shown += "'"
            out[shown] = _changed(value, below.get(key), known)
        return out
    if isinstance(config, list | tuple):
        return [_changed(value, None, known) for value in config]
    if isinstance(config, str):
        return config if config in known else NAMED
    return config


def _words(value: Any) -> set[str]:
    """All keys and texts of a configuration."""
    if isinstance(value, Mapping):
        return set(map(str, value)).union(*map(_words, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_words, value))
    return {value} if isinstance(value, str) else set()


def of_result(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The geometry and the judgement of a pose.json."""
    names = {name for key in NAMES for name in _words(entries.get(key))}
    names |= {Path(name).name.split(".")[0] for name in names}
    hidden = sorted((name for name in names if len(name) >= SHORTEST_NAME), key=len, reverse=True)
    out = {key: scrubbed(entries[key], hidden) for key in ENTRIES if key in entries}
    for key in SENTENCES:
        out[key] = scrubbed(entries.get(key) or [], hidden)
    facts = entries.get("geometry")
    out["geometry"] = [
        {key: scrubbed(fact.get(key), hidden) for key in ("name", "value", "source")}
        for fact in (facts if isinstance(facts, list) else [])
        if isinstance(fact, Mapping)
    ]
    out["views"] = len(entries.get("views_registered_together") or [])
    return out


def scrubbed(value: Any, names: Iterable[str]) -> Any:
    """The value with names, paths, the user and the machine replaced in all its texts."""
    hidden = [*names, *_own_names()]
    if isinstance(value, Mapping):
        return {str(key): scrubbed(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(one, names) for one in value]
    if not isinstance(value, str):
        return value
    for name in hidden:
        value = re.sub(re.escape(name), NAMED, value, flags=re.IGNORECASE)
    return PATHS.sub(PATH, QUOTED.sub(NAMED, value))


def _own_names() -> list[str]:
    own = [socket.gethostname()]
    with suppress(OSError, KeyError, ImportError):
        own.append(getpass.getuser())
    return [name for name in own if len(name) >= SHORTEST_NAME]

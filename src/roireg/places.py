"""Cache folders where the home folder or the installation is not writable, as in containers of a foreign user."""

import os
import stat
import tempfile
from pathlib import Path

# Libraries write compiled code, font lists and settings there.
CACHES = {
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
    "XDG_CACHE_HOME": "cache",
    "TORCHINDUCTOR_CACHE_DIR": "torch",
    "TRITON_CACHE_DIR": "triton",
}


def prepare_places() -> None:
    """Set the environment so that libraries start without a home folder, a user name or a writable installation."""
    if not _known_user():
        # Libraries ask for the user's name in order to name a folder.
        os.environ.setdefault("USER", f"uid{os.getuid()}")
        os.environ.setdefault("LOGNAME", os.environ["USER"])
    home_is_writable = _writable(Path(os.path.expanduser("~")))
    if home_is_writable and _package_is_writable():
        return
    own: Path | None = None
    for variable, name in CACHES.items():
        if variable in os.environ or (home_is_writable and variable != "NUMBA_CACHE_DIR"):
            continue
        own = own or private_folder("roireg-cache")
        os.environ[variable] = str(own / name)


def private_folder(name: str) -> Path:
    """A folder of this user in the temporary folder, which no other user could prepare or read."""
    shared = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(shared)
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return shared
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix=f"{name}-"))


def _known_user() -> bool:
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME"))
    return True


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _package_is_writable() -> bool:
    # Numba compiles beside the source, or in the home folder.
    return _writable(Path(__file__).parent / "drr") or _writable(Path(os.path.expanduser("~")))

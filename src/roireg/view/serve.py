"""Starts the server on this machine, and opens the browser."""

import os
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from roireg.data.writers.poses import read_pose
from roireg.errors import InputError
from roireg.view.access import UPLOAD_LIMIT_BYTES, new_token
from roireg.view.app import create_app
from roireg.view.session_file import read_session, resumed
from roireg.view.sources import CtSource, XraySource
from roireg.view.state import rig_pose_of
from roireg.view.study import read_study
from roireg.view.workbench import Workbench
from roireg.workflow.named_method import names_from_a_pose

ADDRESS = "127.0.0.1"
# A message of the page is a few numbers.
LONGEST_MESSAGE_BYTES = 2**16
BACKLOG = 64
# How long a round of a search may last after Ctrl-C.
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Opened:
    """What the command line names.

    Attributes:
        ct, xrays: files.
        session: a session file instead of them.
        study: registrations of a specimen by the workflow instead of them.
        pose, truth: pose files of the first X-ray.
        config: file that is laid over the default configuration, whose methods can be chosen.
        exclude: labels that may have moved since the CT.
        size_px: longer side of the image that is registered.
        out: folder for results.
    """

    ct: CtSource | None = None
    xrays: Sequence[XraySource] = ()
    session: Path | None = None
    study: Path | None = None
    pose: Path | None = None
    truth: Path | None = None
    config: Path | None = None
    exclude: Sequence[str] = ()
    size_px: int = 128
    out: Path | None = None


def prepared(opened: Opened, folder: Path) -> Workbench:
    """A workbench with all files open.

    Args:
        opened: what to open.
        folder: private folder of the session.

    Raises:
        InputError: one of them cannot be used.
    """
    workbench = Workbench(folder, opened.size_px, opened.out)
    session = None if opened.session is None else read_session(opened.session)
    ct, xrays = (opened.ct, opened.xrays) if session is None else (session.ct_source, session.xray_sources)
    if ct is not None:
        workbench.open_ct(ct)
    for xray in xrays:
        workbench.open_xray(xray)
    if session is not None:
        workbench.change(lambda state: resumed(state, session))
    methods = tuple(names_from_a_pose(opened.config))
    workbench.change(lambda state: replace(state, config=opened.config, methods=methods))
    if opened.study is not None:
        workbench.open_study(read_study(opened.study))
    if opened.exclude:
        workbench.state.known_patient.label_mask(opened.exclude, "--exclude")
        workbench.change(lambda state: replace(state, exclude=tuple(opened.exclude)))
    if opened.pose is not None:
        workbench.go_to(0, read_pose(opened.pose).pose)
    if opened.truth is not None:
        truth = read_pose(opened.truth).pose
        workbench.change(lambda state: replace(state, truth=rig_pose_of(state, 0, truth)))
    return workbench


def bound(port: int) -> socket.socket:
    """A socket that listens on this machine only; port 0 is any free one.

    Raises:
        InputError: the port is taken or may not be used.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(f"--port {port}", f"it cannot be used ({error})", "Choose another, or leave it out") from None
    # Requests wait from now on, until the server takes them.
    listening.listen(BACKLOG)
    return listening


def server_of(workbench: Workbench, token: str, upload_limit_bytes: int = UPLOAD_LIMIT_BYTES) -> uvicorn.Server:
    """The server of a workbench, which `run(sockets=...)` starts."""
    config = uvicorn.Config(
        create_app(workbench, token, upload_limit_bytes),
        log_level="warning",
        access_log=False,
        ws_max_size=LONGEST_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def has_display() -> bool:
    """Whether a window can be opened; without one, a browser for terminals would take this one."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def serve(opened: Opened, port: int, announce: Callable[[str], None], browse: bool) -> None:
    """Open the files, serve the page until it is interrupted, and take uploads away again.

    Args:
        opened: what to open.
        port: 0 for any free one.
        announce: gets the address.
        browse: open it in a browser.

    Raises:
        InputError: a file or the port cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="roireg-view-") as folder, closing(bound(port)) as listening:
        workbench = prepared(opened, Path(folder))
        token = new_token()
        address = f"http://{ADDRESS}:{listening.getsockname()[1]}/{token}/"
        announce(address)
        if browse and has_display():
            webbrowser.open(address)
        # Ctrl-C is how it ends.
        with suppress(KeyboardInterrupt):
            server_of(workbench, token).run(sockets=[listening])
        workbench.close(PATIENCE_S)

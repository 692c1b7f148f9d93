"""Writes the DeepFluoro layout (`roireg.data.deepfluoro` describes it)."""

from collections.abc import Iterable

import h5py

from roireg.data.deepfluoro import PARAMETERS
from roireg.data.deepfluoro_records import Ct, Projection, ProjectionParameters


def write_parameters(file: h5py.File, parameters: ProjectionParameters) -> None:
    """Write the parameters of the C-arm."""
    group = file.create_group(PARAMETERS)
    group["extrinsic"], group["intrinsic"] = parameters.extrinsic, parameters.intrinsic
    group["num-rows"], group["num-cols"] = parameters.rows, parameters.columns
    group["pixel-row-spacing"] = parameters.row_spacing_mm
    group["pixel-col-spacing"] = parameters.column_spacing_mm


def write_specimen(file: h5py.File, name: str, ct: Ct, projections: Iterable[Projection]) -> None:
    """Write one specimen with its X-rays; only one projection is held in memory at a time."""
    for key, pixels in (("vol", ct.hu), ("vol-seg/image", ct.labels)):
        group = file.create_group(f"{name}/{key}")
        group.create_dataset("pixels", data=pixels, compression="gzip", compression_opts=4, shuffle=True)
        group["spacing"], group["origin"], group["dir-mat"] = ct.spacing_mm, ct.origin_mm, ct.direction
    for label, text in ct.label_names.items():
        file[f"{name}/vol-seg/labels-def/{label}"] = text
    for landmark, position in ct.landmarks_mm.items():
        file[f"{name}/vol-landmarks/{landmark}"] = position
    for projection in projections:
        group = file.create_group(f"{name}/projections/{projection.name}")
        options = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        group.create_dataset("image/pixels", data=projection.intensity, **options)
        if projection.segmentation is not None:
            group.create_dataset("gt-seg/pixels", data=projection.segmentation, **options)
        for landmark, position in projection.landmarks_px.items():
            group[f"gt-landmarks/{landmark}"] = position
        for key, matrix in projection.poses.items():
            group[f"gt-poses/{key}"] = matrix
        group["rot-180-for-up"] = int(projection.rotate_180_for_up)
        if projection.good_fov is not None:
            group["good-fov"] = int(projection.good_fov)

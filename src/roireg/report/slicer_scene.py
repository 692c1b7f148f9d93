"""Writes a scene of 3D Slicer (.mrml): the CT, the X-ray where its detector was, and a camera at the X-ray source.

Slicer's world is the CT's frame in RAS. The X-ray is an image of one slice in the camera's frame, under a transform
that places it: whoever changes the transform moves the detector.
"""

import math
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.xray import Xray
from roireg.files import atomic_path
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import in_ras, turn_ras
from roireg.geometry.se3 import transform_points

SCENE, PICTURE = "scene.mrml", "xray.nrrd"
# What Slicer writes and reads in names of files: not the encoding of web addresses.
ENCODED = {"%": "%25", " ": "%20", "'": "%27", '"': "%22", "<": "%3C", ">": "%3E"}
TRANSFORM, VIEW = "vtkMRMLLinearTransformNode1", "1"


def write_scene(folder: str | Path, ct: str | Path, xray: Xray, pose: Float[Tensor, "4 4"]) -> list[Path]:
    """Write scene.mrml, and the image of the X-ray to which it refers, xray.nrrd.

    Args:
        folder: output folder, created if missing.
        ct: the CT's file, or the folder of its DICOM series; the scene refers to it, relative to its own place.
        xray: the X-ray that was registered.
        pose: `volume_from_camera`, mm.

    Returns:
        The two files.
    """
    folder, ct = Path(folder), Path(ct)
    # Slicer reads a series by one of its files.
    file = min((path for path in ct.iterdir() if path.is_file()), default=ct) if ct.is_dir() else ct
    root = ET.Element("MRML", version="Slicer4.4.0", userTags="")
    _node(root, "LinearTransform", TRANSFORM, "C-arm", matrixTransformToParent=_numbers(in_ras(pose)))
    _volume(root, 1, ct.name, os.path.relpath(file, folder), "")
    _volume(root, 2, xray.name, PICTURE, TRANSFORM)
    for name, number in {"Red": 1, "Green": 2, "Yellow": 1}.items():
        shown = f"vtkMRMLScalarVolumeNode{number}"
        identifier = f"vtkMRMLSliceCompositeNode{name}"
        facts = {"singletonTag": name, "layoutName": name, "backgroundVolumeID": shown}
        _node(root, "SliceComposite", identifier, name, references=f"backgroundVolume:{shown};", **facts)
    _node(root, "Slice", "vtkMRMLSliceNodeGreen", "Green", **_plane(xray.camera, pose))
    _node(root, "Camera", "vtkMRMLCameraNode1", "X-ray source", **_view(xray.camera, pose))
    ET.indent(root)
    with atomic_path(folder / PICTURE) as temporary:
        sitk.WriteImage(detector_image(xray.image, xray.camera), str(temporary))
    with atomic_path(folder / SCENE) as temporary:
        ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    return [folder / SCENE, folder / PICTURE]


def detector_image(image: Float[Tensor, "H W"], camera: Camera) -> sitk.Image:
    """The X-ray as an image of one slice, whose pixels lie where those of the detector do; camera frame, mm.

    Raises:
        ValueError: rows and columns of the detector are not at right angles.
    """
    rays = camera.rays_mm().numpy()
    across, down = rays[:, 0], rays[:, 1]
    if abs(across @ down) > 1e-9 * np.linalg.norm(across) * np.linalg.norm(down):
        raise ValueError("rows and columns of the detector are not at right angles")
    spacing = np.array([np.linalg.norm(across), np.linalg.norm(down), 1.0])
    axes = np.stack([across, down, np.cross(across, down) / (spacing[0] * spacing[1])], axis=1)
    out = sitk.GetImageFromArray(image.numpy().astype(np.float32)[None])
    out.SetSpacing(spacing.tolist())
    out.SetOrigin(rays[:, 2].tolist())
    out.SetDirection((axes / [spacing[0], spacing[1], 1.0]).flatten().tolist())
    return out


def _node(root: ET.Element, kind: str, identifier: str, name: str, **values: str) -> None:
    ET.SubElement(root, kind, {"id": identifier, "name": name, **values})


def _volume(root: ET.Element, number: int, name: str, file: str, transform: str) -> None:
    """An image with what stores and what displays it."""
    stores, displays = f"vtkMRMLVolumeArchetypeStorageNode{number}", f"vtkMRMLScalarVolumeDisplayNode{number}"
    encoded = "".join(ENCODED.get(letter, letter) for letter in file)
    _node(root, "VolumeArchetypeStorage", stores, "file", fileName=encoded, centerImage="0", UseOrientationFromFile="1")
    grey = {"colorNodeID": "vtkMRMLColorTableNodeGrey", "autoWindowLevel": "1", "interpolate": "1"}
    _node(root, "VolumeDisplay", displays, "display", **grey)
    references = f"storage:{stores};display:{displays};"
    placed = {"transformNodeRef": transform} if transform else {}
    references += f"transform:{transform};" if transform else ""
    facts = {"storageNodeRef": stores, "displayNodeRef": displays, "references": references}
    _node(root, "Volume", f"vtkMRMLScalarVolumeNode{number}", name, **facts, **placed)


def _middle_mm(camera: Camera) -> Float[Tensor, "3"]:
    """The middle of the detector, camera frame."""
    pixel = camera.intrinsics_px.new_tensor([(camera.width - 1) / 2, (camera.height - 1) / 2, 1.0])
    return camera.rays_mm() @ pixel


def _plane(camera: Camera, pose: Float[Tensor, "4 4"]) -> dict[str, str]:
    """The slice view that lies on the detector, with the picture as it is stored, shown in the 3D view too."""
    rays, to_ras = camera.rays_mm(), turn_ras(pose)
    right, up = rays[:, 0] / rays[:, 0].norm(), -rays[:, 1] / rays[:, 1].norm()
    in_camera = torch.eye(4, dtype=pose.dtype)
    in_camera[:3] = torch.stack([right, up, torch.linalg.cross(right, up), _middle_mm(camera)], dim=1)
    width, height = camera.width * float(rays[:, 0].norm()), camera.height * float(rays[:, 1].norm())
    return {
        "singletonTag": "Green",
        "layoutName": "Green",
        "layoutLabel": "G",
        "orientation": "Reformat",
        "sliceToRAS": _numbers(to_ras @ in_camera),
        "fieldOfView": f"{width!r} {height!r} 1",
        "sliceVisibility": "true",
    }


def _view(camera: Camera, pose: Float[Tensor, "4 4"]) -> dict[str, str]:
    """The camera of the 3D view, which looks from the source to the middle of the detector."""
    to_ras, middle = turn_ras(pose), _middle_mm(camera)
    height = camera.height * float(camera.rays_mm()[:, 1].norm())
    return {
        "singletonTag": VIEW,
        "position": _numbers(to_ras[:3, 3]),
        "focalPoint": _numbers(transform_points(to_ras, middle[None])[0]),
        "viewUp": _numbers(-to_ras[:3, 1]),
        "parallelProjection": "false",
        "viewAngle": repr(math.degrees(2 * math.atan(height / 2 / float(middle.norm())))),
    }


def _numbers(values: Float[Tensor, "..."]) -> str:
    return " ".join(repr(value + 0.0) for value in values.flatten().tolist())

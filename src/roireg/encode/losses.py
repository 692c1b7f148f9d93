"""Loss of an encoder: geodesic (GEO), ROI Dice, image similarity (paper, 2.3); for PSSS-style also reconstruction."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from roireg.data.images import scaled
from roireg.data.volume import Volume
from roireg.drr import render
from roireg.drr.rois import roi_channels
from roireg.encode.network import EncoderOutput, robustly_scaled
from roireg.geometry.camera import Camera
from roireg.geometry.se3 import invert, se3_log, translation
from roireg.geometry.so3 import rotation_vector
from roireg.metrics.registry import EPS as EPS_OF_NCC
from roireg.metrics.similarity import dice, similarity
from roireg.segment.model import Segmenter, roi_numbers

# Added under the square roots, in mm^2 and (rad, mm)^2, so that the gradient at the truth is 0 and not NaN; the value
# is DiffPose's.
EPS = 1e-4
NO_SIMILARITY = "none"
OF_CT, DRAWN = "ct", "drawn"


@dataclass(frozen=True)
class EncoderLoss:
    """Weights of the loss's terms, and how images are compared.

    Attributes:
        geodesic: weight of GEO, the paper's beta_1.
        roi: weight of one minus Dice, the paper's beta_2; with 0 the term is not computed.
        similarity: a key of `roireg.metrics.registry.SIMILARITIES`, or none.
        image_size_px: height and width of the DRRs that are rendered for similarity and Dice.
        rendered_per_batch: number of examples of a batch for which DRRs are rendered; their mean estimates the batch's.
        images_from: fraction of the training after which the terms with rendered DRRs are added.
        reconstruction: weight of the mean squared error of the decoder's image.
        latent: weight of the mean square of the tokens.
        continued: whether tissue is continued beyond the ends of the CT in the rendered DRRs.
        bone_contrast: contrast of bone in the rendered DRRs: that of the `ct`, or the random contrast that was `drawn`
            for the image that the network got.
        ncc_epsilon: added to the variances of images in [0, 1] if the similarity is an NCC.
    """

    geodesic: float
    roi: float
    similarity: str
    image_size_px: int
    rendered_per_batch: int
    images_from: float
    reconstruction: float
    latent: float
    continued: bool = True
    bone_contrast: str = OF_CT
    ncc_epsilon: float = EPS_OF_NCC


def geodesic_loss(
    truth: Float[Tensor, "B 4 4"],
    estimate: Float[Tensor, "B 4 4"],
    center_mm: Float[Tensor, "3"],
    focal_mm: float,
) -> Float[Tensor, "B"]:
    r"""The paper's GEO, as DiffPose computes it (double geodesic plus log geodesic).

    $$\sqrt{(\tfrac f2 \theta)^2 + \|\Delta t\|^2 + \epsilon} + \sqrt{\|\mathrm{Log}(T^{-1} \hat T)\|^2 + \epsilon}$$

    with theta the angle of $R^\top \hat R$. Translations are those of the isocentre in the camera frame, so that a
    rotation of the patient about the isocentre has no translation error.

    Args:
        truth, estimate: `volume_from_camera`, mm.
        center_mm: the isocentre, volume frame.
        focal_mm: f, the distance from source to detector.

    Returns:
        Loss in mm. Value and gradient are finite, also at the truth and at a rotation by 180 degrees from it.
    """
    center = translation(center_mm)
    a, b = invert(truth) @ center, invert(estimate) @ center
    turn = rotation_vector(a[:, :3, :3].transpose(1, 2) @ b[:, :3, :3])
    shift = a[:, :3, 3] - b[:, :3, 3]
    double = ((focal_mm / 2) ** 2 * turn.square().sum(-1) + shift.square().sum(-1) + EPS).sqrt()
    log = (se3_log(invert(a) @ b).square().sum(-1) + EPS).sqrt()
    return double + log


@dataclass(frozen=True, eq=False)
class ImageTerms:
    """The terms of the loss that compare rendered DRRs.

    Attributes:
        volume: rendered volume, attenuation in 1/mm.
        camera: camera with the size at which images are compared.
        step_mm: distance between the renderer's samples on the central ray; None for its default.
        segmenter: frozen segmenter that was trained without this specimen; None without a ROI term.
        bone: volume of bone that is added with a gain; None if all DRRs have the CT's own contrast.
    """

    volume: Volume
    camera: Camera
    step_mm: float | None
    segmenter: Segmenter | None
    bone: Volume | None = None

    def __call__(
        self,
        truth: Float[Tensor, "B 4 4"],
        estimate: Float[Tensor, "B 4 4"],
        settings: EncoderLoss,
        gains: Float[Tensor, "B"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """`similarity` and `dice` between the DRRs at the true and at the estimated pose, as means over the batch.

        Terms that the settings leave out are not computed. As in the paper's Fig. 2, Dice compares the segmenter's hard
        masks in the DRR at the true pose with its probabilities in the DRR at the estimated pose. `gains` are the
        multiples of `bone` that are added to the volume for both DRRs of each example.
        """
        terms = {}
        with torch.no_grad():
            fixed = self._image(truth, gains)
        moving = self._image(estimate, gains)
        if settings.similarity != NO_SIMILARITY:
            measure = similarity(settings.similarity, settings.ncc_epsilon)
            terms["similarity"] = measure(fixed[:, None], moving[:, None]).mean()
        if settings.roi > 0:
            if self.segmenter is None:
                raise ValueError("the loss has a ROI term, and there is no segmenter")
            with torch.no_grad():
                masks = roi_channels(roi_numbers(self.segmenter.probabilities(fixed)), len(self.segmenter.rois))
            terms["dice"] = dice(masks, self.segmenter.probabilities(moving)).mean()
        return terms

    def _image(self, pose: Float[Tensor, "B 4 4"], gains: Float[Tensor, "B"] | None) -> Float[Tensor, "B H W"]:
        integrals = render(self.volume, self.camera, pose, self.step_mm)
        if self.bone is not None and gains is not None:
            bone = render(self.bone, self.camera, pose, self.step_mm)
            integrals = integrals + gains.to(bone)[:, None, None] * bone
        return scaled(integrals)


def total(terms: dict[str, Float[Tensor, ""]], settings: EncoderLoss) -> Float[Tensor, ""]:
    r"""$\beta_1\,\mathrm{GEO} + \beta_2 (1 - \mathrm{Dice}) + (1 - \mathrm{NCC})$, plus the autoencoder's terms."""
    loss = settings.geodesic * terms["geodesic"]
    if "similarity" in terms:
        loss = loss + 1 - terms["similarity"]
    if "dice" in terms:
        loss = loss + settings.roi * (1 - terms["dice"])
    if "reconstruction" in terms:
        loss = loss + settings.reconstruction * terms["reconstruction"] + settings.latent * terms["latent"]
    return loss


def reconstruction_terms(output: EncoderOutput, clean: Float[Tensor, "B H W"]) -> dict[str, Float[Tensor, ""]]:
    """Mean squared error of the decoder's images and mean square of the tokens; empty for networks without decoder."""
    if output.reconstruction is None or output.latent is None:
        return {}
    target = robustly_scaled(clean, output.reconstruction.shape[-1])
    return {
        "reconstruction": mse_loss(output.reconstruction, target),
        "latent": output.latent.square().mean(),
    }

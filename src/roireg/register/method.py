"""Settings of a method: its entry in the configuration, combined with the entries that it names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from roireg.data.estimate import Estimate
from roireg.register.registry import OPTIMIZERS, ROI_TERMS, STARTS, settings_of
from roireg.register.roi import Regions
from roireg.register.settings import (
    EncoderStartSettings,
    GaussNewtonSettings,
    OptimizerSettings,
    SearchSettings,
    StartSettings,
    WeightSettings,
)
from roireg.segment.model import Segmenter


@dataclass(frozen=True)
class MethodSettings:
    """A method: an entry of `methods` in the configuration, with the entries that it names.

    Attributes:
        name, init, roi, optimizer, weights: names of the entries, written to the results.
        similarity: a key of `roireg.metrics.registry.SIMILARITIES`, or `builtin` for an optimizer that has its own
            objective.
        start: settings of the start.
        search: settings of the optimizer.
        regions: the ROI term, or None.
        pixels: settings of the pixel weights.
        step_mm: distance between the renderer's samples on the central ray; None for its default.
        estimates: an encoder's poses by X-ray, if the start is an encoder.
        views: number of X-rays of a specimen that the workflow registers jointly.
        fallback: the start of a second attempt if the verdict is not `trusted`, or None; the better result is kept.
    """

    name: str
    init: str
    similarity: str
    roi: str
    optimizer: str
    weights: str
    start: StartSettings
    search: OptimizerSettings
    regions: Regions | None
    pixels: WeightSettings
    step_mm: float | None
    estimates: Mapping[str, Estimate] = field(default_factory=dict, repr=False)
    views: int = 1
    fallback: StartSettings | None = None


def method_from_config(
    name: str,
    method: dict[str, Any],
    initial_pose: dict[str, Any],
    optimizer: dict[str, Any],
    roi_term: dict[str, Any] | None,
    weights: dict[str, Any],
    rois: list[str],
    step_mm: float | None,
    fallback: dict[str, Any] | None = None,
) -> MethodSettings:
    """A method from its entry in the configuration and the entries that it names.

    Args:
        name: name of the method.
        method, initial_pose, optimizer, roi_term, weights: the entries; `roi_term` is None for a method without one.
        rois: all ROIs of the segmenters, in their order.
        step_mm: distance between the renderer's samples on the central ray; None for its default.
        fallback: the entry of the start of a second attempt, or None.
    """
    return MethodSettings(
        name=name,
        init=method["init"],
        similarity=method["similarity"],
        roi=method["roi"],
        optimizer=method["optimizer"],
        weights=method["weights"],
        start=settings_of(initial_pose, STARTS),
        search=settings_of(optimizer, OPTIMIZERS),
        regions=None if roi_term is None else Regions(settings_of(roi_term, ROI_TERMS), tuple(rois)),
        pixels=WeightSettings(**weights),
        step_mm=step_mm,
        views=method.get("views", 1),
        fallback=None if fallback is None else settings_of(fallback, STARTS),
    )


def search_method(exclude: Iterable[str] = (), exclude_margin_mm: float = 9.0) -> MethodSettings:
    """The method of `roireg register`: a search without a network, then Gauss-Newton.

    Args:
        exclude: labels that may have moved since the CT; pixels whose rays meet them get weight 0.
        exclude_margin_mm: distance by which these labels are dilated.
    """
    return MethodSettings(
        name="search",
        init="search",
        similarity="builtin",
        roi="none",
        optimizer="gauss_newton",
        weights="coverage and exclusion",
        start=SearchSettings(),
        # Smaller tolerances than the workflow's: with a second view, stopping earlier would cause most of the error.
        search=GaussNewtonSettings(tolerance_rotation_rad=5e-5, tolerance_translation_mm=0.01),
        regions=None,
        pixels=WeightSettings(coverage=True, exclude=tuple(exclude), exclude_margin_mm=exclude_margin_mm),
        step_mm=None,
    )


def with_estimates(method: MethodSettings, estimates: Mapping[str, Estimate]) -> MethodSettings:
    """The method with an encoder's poses (by X-ray) as starts.

    Raises:
        ValueError: the method does not start from an encoder.
    """
    if not isinstance(method.start, EncoderStartSettings):
        raise ValueError(f"method {method.name} does not start from an encoder")
    return replace(method, estimates=estimates)


def with_segmenters(method: MethodSettings, segmenters: Mapping[str, Segmenter]) -> MethodSettings:
    """The method with the segmenters (by name) of its ROI term.

    Raises:
        ValueError: a segmenter is missing, or the method has no ROI term.
    """
    if method.regions is None:
        raise ValueError(f"method {method.name} has no ROI term")
    missing = [name for name in method.regions.segmenter_names if name not in segmenters]
    if missing:
        raise ValueError(f"method {method.name} needs the segmenters {', '.join(missing)}")
    return replace(method, regions=replace(method.regions, segmenters=segmenters))


def with_exclusion(method: MethodSettings, exclude: Iterable[str] | None) -> MethodSettings:
    """The method with other labels excluded; unchanged for None."""
    if exclude is None:
        return method
    return replace(method, pixels=replace(method.pixels, exclude=tuple(exclude)))

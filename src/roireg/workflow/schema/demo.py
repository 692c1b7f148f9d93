"""`demo`, the simulated data set, and `conditions`, its variants."""

from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import Field, SerializerFunctionWrapHandler, create_model, model_serializer

from roireg.settings import NotNegative, Section, section
from roireg.workflow.schema.section import Entry

# Components along the camera's axes in the posterior-anterior pose: across the image, down, along the central ray.
Triple = tuple[float, float, float]
Spread = tuple[NotNegative, NotNegative, NotNegative]


class Views(Section):
    mean_rotation_deg: Triple = (0.0, 0.0, 0.0)
    """Mean rotation of the exposures relative to the posterior-anterior (PA) pose. The three numbers are along the
    camera's axes in that pose: across the image, down, along the central ray."""
    mean_translation_mm: Triple = (0.0, 0.0, 0.0)
    """Mean translation of the exposures relative to the PA pose, along the same axes."""
    rotation_sd_deg: Spread = (10.0, 10.0, 10.0)
    """Standard deviations of the rotation.

    Paper: not given; DiffPose draws training poses with 11.5, 14.3, 5.7.
    """
    rotation_max_deg: Spread = (28.0, 28.0, 28.0)
    """Largest deviation of the rotation from its mean; the distribution is truncated there."""
    translation_sd_mm: Spread = (25.0, 25.0, 25.0)
    """Standard deviations of the translation.

    Paper: not given; DiffPose draws training poses with 70, 50, 90.
    """
    translation_max_mm: Spread = (60.0, 60.0, 60.0)
    """Largest deviation of the translation from its mean; the distribution is truncated there."""
    min_visible_landmarks: Annotated[int, Ge(0), Le(14)] = 8
    """Random exposures that show fewer of the 14 landmarks are rejected."""


class Demo(Section):
    specimens: Annotated[int, Ge(1), Le(99)] = 3
    """Number of specimens: the first is the CT itself, the others are deformed copies of it."""
    xrays_per_specimen: Annotated[int, Ge(1), Le(999)] = 6
    """Number of simulated X-rays of each specimen."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of deformations, poses, instruments and noise."""
    ct_below_landmarks_mm: Annotated[float, Ge(0), Le(200)] = 90.0
    """Distance from the lowest landmark to the inferior end of the CTs. With 90 the CT covers what the X-rays show, as
    in DeepFluoro; with 4 it ends inside the X-rays, like the CT that the demo is made from."""
    views: Views = section(Views)
    """Distribution of the exposures: the PA pose, perturbed by a truncated normal rotation and translation."""
    sdist: str | None = None
    """Path of a downloaded source distribution of TotalSegmentator 2.5.0, for machines without network; null to
    download it."""


class Changes(Section):
    """Some keys of a section; keys that are not given are left out when it is written."""

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


def _changes_of(kind: type[Section], name: str, keys: list[str], **types: type[Changes]) -> Any:
    """A model with the given keys of a section, all optional; `types` are the models of keys that are sections."""
    fields = {key: kind.model_fields[key] for key in keys}
    optional: dict[str, Any] = {
        key: (types.get(key, field.rebuild_annotation()) | None, Field(default=None, description=field.description))
        for key, field in fields.items()
    }
    return create_model(name, __base__=Changes, **optional)


ViewsOfCondition = _changes_of(Views, "ViewsOfCondition", [*Views.model_fields])
Condition = _changes_of(Demo, "Condition", ["ct_below_landmarks_mm", "views"], views=ViewsOfCondition)


def conditions() -> dict[str, Entry[Any]]:
    """Conditions of the default configuration: none."""
    return {}

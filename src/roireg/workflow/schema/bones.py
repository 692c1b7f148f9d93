"""`bones`: bones that moved on their own since the CT, registered from the pose of the whole CT."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import Field

from roireg.settings import UNIQUE, Count, Names, Section, Text

Bodies = Annotated[tuple[Text, ...], MinLen(1), *UNIQUE]

# Centres of the femoral heads, as DeepFluoro names them.
FEMORAL_HEADS: dict[str, str | None] = {"left femur": "FH-l", "right femur": "FH-r"}


class Bones(Section):
    methods: Names = ("multi_start+gn",)
    """Names of `methods` from whose poses bones are registered; [] for no table of bones, as needed for CTs whose
    labels lack them."""
    names: Bodies = ("left femur", "right femur")
    """Labels of the bones, refined together, each under a pose of its own. Labels that move together are one bone,
    their names joined by +."""
    base: Annotated[tuple[Text, ...], *UNIQUE] = ()
    """Labels that the bones moved against, such as those of the pelvis. They are registered as one bone as well, alone
    and together with `names`, which shows what the other bones do to it and takes two minutes for each X-ray."""
    joints: dict[Text, Text | None] = Field(default_factory=FEMORAL_HEADS.copy)
    """Landmark of the CT about which a bone turns, by label of the bone: its joint, which stays where the whole CT's
    pose has it while the bone turns. null for the middle of the bone."""
    rotation_sd_deg: Annotated[float, Gt(0), Le(90)] = 10.0
    """Spread of the random poses about and along each axis at which a bone is looked for; its start is taken to be
    right to twice that (standard deviation). A hip turns by some 20 degrees between a CT and an exposure."""
    translation_sd_mm: Annotated[float, Gt(0), Le(100)] = 1.0
    """The same along each axis: by how much the joint is displaced. A femoral head stays in its socket, so that this is
    about as large as the errors of the whole CT's pose."""
    xrays_per_specimen: Count | None = 1
    """Number of X-rays of each specimen, the first ones; null for all."""
    image_size_px: Annotated[int, Ge(32), Le(4096)] = 1024
    """Largest height and width of the X-rays that bones are registered to; they are not enlarged. The part about a bone
    is cut out of them."""

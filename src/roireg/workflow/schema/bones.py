"""`bones`: bones that moved on their own since the CT, registered from the pose of the whole CT."""

from typing import Annotated

from annotated_types import Ge, Le, MinLen

from roireg.settings import UNIQUE, Count, Names, Section, Text

Bodies = Annotated[tuple[Text, ...], MinLen(1), *UNIQUE]


class Bones(Section):
    methods: Names = ("multi_start+gn",)
    """Names of `methods` from whose poses bones are registered; [] for no table of bones, as needed for CTs whose
    labels lack them."""
    names: Bodies = ("left femur", "right femur")
    """Labels of the bones, refined together, each under a pose of its own. Labels that move together are one bone,
    their names joined by +."""
    base: Annotated[tuple[Text, ...], *UNIQUE] = ("left hemipelvis", "right hemipelvis")
    """Labels that the bones moved against. They are registered as one bone as well, alone and together with `names`,
    which shows what the other bones do to it; [] for neither."""
    xrays_per_specimen: Count | None = 1
    """Number of X-rays of each specimen, the first ones; null for all."""
    image_size_px: Annotated[int, Ge(32), Le(4096)] = 1024
    """Largest height and width of the X-rays that bones are registered to; they are not enlarged. The part about a bone
    is cut out of them."""

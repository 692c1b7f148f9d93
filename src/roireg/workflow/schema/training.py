"""`training` and `recipes`: how networks learn."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationInfo, field_validator

from roireg.settings import Positive, ProperFraction, Refused
from roireg.workflow.schema.section import Entry, Section


class Training(Section):
    gpu: Literal[0, 1] = 0
    """GPUs of a job that trains or applies a network; 0 for the CPU.

    Paper: one GPU (section 3.1).
    """


class Recipe(Section):
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    """sgd is with Nesterov momentum.

    Paper: Adam for the U-Net and the encoder, AdamW for MedSAM (section 3.1).
    """
    learning_rate: Annotated[float, Gt(0), Le(10)] = 1.0e-3
    """Step at the start.

    Paper: 1e-1 for the U-Net, 1e-3 for MedSAM and the encoder (section 3.1).
    """
    weight_decay: Annotated[float, Ge(0), Le(1)] = 0.0
    """Weight decay of the optimizer."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Momentum of sgd, above 0; not used by the others."""
    max_gradient_norm: Positive | None = None
    """Longer gradients are shortened to this norm; null for no limit."""
    max_gradient_ratio: Positive | None = None
    """Adaptive clipping: largest ratio of the gradient of a unit to its weights; null for no limit.

    Paper: not given; DiffPose 0.01 for the encoder.
    """
    schedule: Literal["plateau", "cosine", "constant", "warmup_cosine"] = "cosine"
    """How the learning rate changes, once an epoch, with warmup_cosine once a batch; plateau follows the training loss.

    Paper: not given.
    """
    warmup_epochs: Annotated[int, Ge(0), Le(100_000)] = 0
    """Epochs of linear growth of the learning rate, for the schedule warmup_cosine."""
    plateau_factor: ProperFraction = 0.1
    """Factor on the learning rate at a plateau, for the schedule plateau."""
    plateau_epochs: Annotated[int, Ge(0)] = 10
    """More epochs than that without a lower loss are a plateau."""

    @field_validator("momentum")
    @classmethod
    def _nesterov(cls, momentum: float, info: ValidationInfo) -> float:
        if info.data.get("optimizer") == "sgd" and momentum == 0:
            raise Refused("0 does not go with the optimizer sgd", "Give more, up to 1: its momentum is Nesterov's")
        return momentum


def recipes() -> dict[str, Entry[Recipe]]:
    """Recipes of the default configuration."""
    return {
        "sgd": Entry(
            Recipe(
                optimizer="sgd",
                learning_rate=0.1,
                weight_decay=1.0e-4,
                momentum=0.9,
                max_gradient_norm=12.0,
                schedule="plateau",
            ),
            'Published for DeepFluoro by Grupp et al. 2020; the learning rate is the paper\'s "10^-1".',
        ),
        "adam": Entry(Recipe(max_gradient_norm=12.0)),
        "adamw": Entry(
            Recipe(optimizer="adamw", weight_decay=0.01, max_gradient_norm=1.0), "The paper's for MedSAM (section 3.1)."
        ),
        "adamw_from_scratch": Entry(
            Recipe(optimizer="adamw", learning_rate=2.0e-3, weight_decay=0.01, max_gradient_norm=1.0),
            "For a small network that starts from random weights.",
        ),
        "encoder": Entry(
            Recipe(learning_rate=3.0e-3, max_gradient_ratio=0.01, schedule="warmup_cosine", warmup_epochs=1),
            "DiffPose's for the encoder. The paper's learning rate is 1e-3, with batches of 8 in DiffPose.",
        ),
    }

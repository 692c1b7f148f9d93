"""`training` and `recipes`: device and settings of the training of networks."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationInfo, field_validator

from roireg.settings import Positive, ProperFraction, Refused, Section
from roireg.workflow.schema.section import Entry


class Training(Section):
    gpu: Literal[0, 1] = 0
    """Number of GPUs of a job that trains or applies a network; 0 for the CPU.

    Paper: one GPU (section 3.1).
    """


class Recipe(Section):
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    """The optimizer; sgd uses Nesterov momentum.

    Paper: Adam for the U-Net and the encoder, AdamW for MedSAM (section 3.1).
    """
    learning_rate: Annotated[float, Gt(0), Le(10)] = 1.0e-3
    """Initial learning rate.

    Paper: 1e-1 for the U-Net, 1e-3 for MedSAM and the encoder (section 3.1).
    """
    weight_decay: Annotated[float, Ge(0), Le(1)] = 0.0
    """Weight decay of the optimizer."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Momentum of sgd, above 0; ignored by the other optimizers."""
    max_gradient_norm: Positive | None = None
    """Norm to which longer gradients are clipped; null for no clipping."""
    max_gradient_ratio: Positive | None = None
    """Adaptive clipping: largest ratio of the norms of a unit's gradient and of its weights; null for no clipping.

    Paper: not given; DiffPose 0.01 for the encoder.
    """
    schedule: Literal["plateau", "cosine", "constant", "warmup_cosine"] = "cosine"
    """Schedule of the learning rate. It is updated after each epoch, by warmup_cosine after each batch; plateau depends
    on the training loss.

    Paper: not given.
    """
    warmup_epochs: Annotated[int, Ge(0), Le(100_000)] = 0
    """Number of epochs in which the learning rate grows linearly, for the schedule warmup_cosine."""
    plateau_factor: ProperFraction = 0.1
    """Factor on the learning rate at a plateau, for the schedule plateau."""
    plateau_epochs: Annotated[int, Ge(0)] = 10
    """Number of epochs without a lower loss after which the next such epoch is a plateau, for the schedule plateau."""

    @field_validator("momentum")
    @classmethod
    def _nesterov(cls, momentum: float, info: ValidationInfo) -> float:
        if info.data.get("optimizer") == "sgd" and momentum == 0:
            raise Refused("0 is not allowed for sgd, which uses Nesterov momentum", "Set a value between 0 and 1")
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
            'The recipe of Grupp et al. 2020 for DeepFluoro, with the paper\'s learning rate "10^-1".',
        ),
        "adam": Entry(Recipe(max_gradient_norm=12.0)),
        "adamw": Entry(
            Recipe(optimizer="adamw", weight_decay=0.01, max_gradient_norm=1.0),
            "The paper's recipe for MedSAM (section 3.1).",
        ),
        "adamw_from_scratch": Entry(
            Recipe(optimizer="adamw", learning_rate=2.0e-3, weight_decay=0.01, max_gradient_norm=1.0),
            "For a small network trained from random weights.",
        ),
        "encoder": Entry(
            Recipe(learning_rate=3.0e-3, max_gradient_ratio=0.01, schedule="warmup_cosine", warmup_epochs=1),
            "DiffPose's recipe for the encoder. The paper's learning rate is 1e-3; DiffPose's batches have 8 DRRs.",
        ),
    }

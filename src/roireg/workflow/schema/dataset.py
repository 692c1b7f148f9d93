"""Which data set a run is made on: `dataset`, and `deepfluoro` for the one that is fetched from its archive."""

from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import Field, StringConstraints

from roireg.settings import UNIQUE, Count, Name, Sha256
from roireg.workflow.schema.section import Section

# Grupp et al. 2020; X-rays of each specimen as DiffPose's notebook counts them.
DEEPFLUORO_XRAYS = {
    "17-1882": 111,
    "18-1109": 104,
    "18-0725": 24,
    "18-2799": 48,
    "18-2800": 55,
    "17-1905": 24,
}


class Dataset(Section):
    name: Name = "pelvis-demo"
    """Name of the run: results go to results/{name}/."""
    path: str | None = None
    """An HDF5 file in the DeepFluoro full-resolution layout; null for the one that `source` makes or fetches."""
    source: Literal["demo", "deepfluoro"] = "demo"
    """Where the data come from without a path: the simulated demo data set, or DeepFluoro from its archive.

    Paper: DeepFluoro (section 3.1).
    """
    specimens: Annotated[tuple[str, ...], MinLen(1), *UNIQUE] | None = None
    """Names of the specimens to use; null for all of the file. A file that is yet to be fetched needs their names.

    Paper: six (section 3.1).
    """


class DeepFluoro(Section):
    accept_license: bool = False
    """Set it to true when you have read the licence of the data (CC BY-NC 4.0: no commercial use) and keep to it."""
    server: Annotated[str, StringConstraints(pattern=r"^https?://[^/]+$")] = "https://archive.data.jhu.edu"
    """Address of the archive, a Dataverse; a mirror may take its place."""
    sha256: Sha256 | None = None
    """SHA-256 digest of the file as it is fetched; null for the checksum that the archive states."""
    xrays: dict[Name, Count] = Field(default_factory=DEEPFLUORO_XRAYS.copy)
    """How many X-rays each specimen has, by its name: needed to plan jobs (registration.xrays_per_job) and to estimate
    costs while the file is not here.

    Paper: 366 in all (section 3.1).
    """

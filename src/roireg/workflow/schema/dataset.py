"""The data set of a run: `dataset`, and `deepfluoro` for the data set that is downloaded from its archive."""

from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import Field, StringConstraints

from roireg.settings import UNIQUE, Count, Name, Section, Sha256

# Grupp et al. 2020; number of X-rays of each specimen according to DiffPose's notebook.
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
    """An HDF5 file in the DeepFluoro full-resolution layout; null to use the data set given by `source`."""
    source: Literal["demo", "deepfluoro"] = "demo"
    """Source of the data if path is null: demo simulates the demo data set, deepfluoro downloads DeepFluoro.

    Paper: DeepFluoro (section 3.1).
    """
    specimens: Annotated[tuple[str, ...], MinLen(1), *UNIQUE] | None = None
    """Names of the specimens to use; null for all. They must be given if the file is not downloaded yet.

    Paper: six (section 3.1).
    """


class DeepFluoro(Section):
    accept_license: bool = False
    """Set to true if you have read and accept the licence of the data (CC BY-NC 4.0: no commercial use)."""
    server: Annotated[str, StringConstraints(pattern=r"^https?://[^/]+$")] = "https://archive.data.jhu.edu"
    """Address of the archive, a Dataverse server, or of a mirror."""
    sha256: Sha256 | None = None
    """Expected SHA-256 digest of the downloaded file; null to use the checksum stated by the archive."""
    xrays: dict[Name, Count] = Field(default_factory=DEEPFLUORO_XRAYS.copy)
    """Number of X-rays of each specimen, by name; used to plan jobs (registration.xrays_per_job) and to estimate costs
    before the file is downloaded.

    Paper: 366 in all (section 3.1).
    """

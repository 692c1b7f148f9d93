"""Downloads from a server that misbehaves: on a real socket, by a real HTTP server."""

import hashlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from servers import Behaviour, described, serving, zipped

from roireg.data import download
from roireg.data.deepfluoro_archive import DATASET_ID, download_deepfluoro, remote_file, unpack
from roireg.data.download import Patience, RemoteFile, fetch, new_session
from roireg.errors import InputError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(3_000_000)
PIECE = download.CHUNK_BYTES
HASTY = Patience(attempts=3, first_wait_seconds=0.01, timeout_seconds=5.0)


@pytest.fixture
def serve(monkeypatch):
    """Start a server with a behaviour; its address."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as servers:
        yield lambda behaviour: servers.enter_context(serving(behaviour))


def remote(server: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile(f"{server}/file", len(content), "md5", hashlib.md5(content).hexdigest())


def get(file: RemoteFile, path: Path) -> None:
    with new_session() as session:
        fetch(file, path, session, HASTY, spare_bytes=0)


def test_a_file_comes_whole_and_nothing_else_is_left(serve, tmp_path):
    get(remote(serve(Behaviour([CONTENT]))), tmp_path / "folder" / "file")
    assert (tmp_path / "folder" / "file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file"]


def test_a_connection_that_drops_again_and_again_is_gone_on_with(serve, tmp_path):
    behaviour = Behaviour([CONTENT], cuts=[15 * PIECE, 10 * PIECE, 7 * PIECE, None])
    get(remote(serve(behaviour)), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    starts = [int(value.removeprefix("bytes=").removesuffix("-")) for value in behaviour.seen[1:]]
    assert behaviour.seen[0] is None
    assert starts == [15 * PIECE, 25 * PIECE, 32 * PIECE]


def test_a_later_call_goes_on_where_an_earlier_one_stopped(serve, tmp_path):
    stopped = Behaviour([CONTENT], cuts=[18 * PIECE], statuses=[None, 503])
    with pytest.raises(InputError, match=r"failed 3 times in a row \(the server answers 503\).*is resumed"):
        get(remote(serve(stopped)), tmp_path / "file")
    assert not (tmp_path / "file").exists()
    again = Behaviour([CONTENT])
    get(remote(serve(again)), tmp_path / "file")
    assert again.seen == [f"bytes={18 * PIECE}-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_begins_again(serve, tmp_path):
    behaviour = Behaviour([CONTENT], cuts=[15 * PIECE, None], ranges=False)
    get(remote(serve(behaviour)), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_always_ends_early_is_given_up(serve, tmp_path):
    behaviour = Behaviour([CONTENT], cuts=[15 * PIECE], ranges=False)
    with pytest.raises(InputError, match="3 times in a row"):
        get(remote(serve(behaviour)), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_server_that_is_busy_for_a_while_is_waited_for(serve, tmp_path):
    get(remote(serve(Behaviour([CONTENT], statuses=[503, 429, None]))), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("stated", [2_000_000, 4_000_000])
def test_another_length_than_the_archive_states_is_refused(serve, tmp_path, stated):
    behaviour = Behaviour([CONTENT], stated=stated)
    with pytest.raises(InputError, match=rf"the server sends {stated} bytes but its archive states 3000000"):
        get(remote(serve(behaviour)), tmp_path / "file")
    assert len(behaviour.seen) == 1


def test_a_web_page_is_no_file(serve, tmp_path):
    page = b"<html>Please accept the terms of use</html>"
    with pytest.raises(InputError, match="web page instead of the file"):
        get(remote(serve(Behaviour([page], kind="text/html; charset=utf-8"))), tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_tried_again(serve, tmp_path, status):
    behaviour = Behaviour([CONTENT], statuses=[status])
    with pytest.raises(InputError, match=rf"answers {status}.*browser"):
        get(remote(serve(behaviour)), tmp_path / "file")
    assert len(behaviour.seen) == 1


def test_a_file_that_changed_midway_is_fetched_anew(serve, tmp_path):
    behaviour = Behaviour([OTHER, CONTENT], cuts=[15 * PIECE, None])
    get(remote(serve(behaviour)), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert behaviour.seen == [None, f"bytes={15 * PIECE}-", None]


def test_a_file_that_became_another_one_midway_is_refused_and_forgotten(serve, tmp_path):
    behaviour = Behaviour([CONTENT, OTHER], cuts=[15 * PIECE, None])
    expected = remote("", CONTENT).digest
    with pytest.raises(InputError, match=f"its md5 is {hashlib.md5(OTHER).hexdigest()}, not {expected}"):
        get(remote(serve(behaviour)), tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [900_000, 2_000_000])
def test_a_file_that_shrank_midway_is_refused(serve, tmp_path, size):
    behaviour = Behaviour([CONTENT, CONTENT[:size]], cuts=[15 * PIECE, None])
    with pytest.raises(InputError, match=f"the server sends {size} bytes"):
        get(remote(serve(behaviour)), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_damaged_file_is_refused_and_forgotten(serve, tmp_path):
    with pytest.raises(InputError, match="its md5 is"):
        get(remote(serve(Behaviour([OTHER]))), tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_whole_leftover_of_another_file_is_fetched_anew(serve, tmp_path):
    (tmp_path / "file.part").write_bytes(OTHER)
    behaviour = Behaviour([CONTENT])
    get(remote(serve(behaviour)), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert behaviour.seen == [None]


def test_an_address_that_is_none_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"cannot be downloaded \(MissingSchema\)"):
        get(remote("no-server"), tmp_path / "file")


def test_no_server_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"failed 3 times in a row \(ConnectionError\)") as error:
        get(remote("http://127.0.0.1:9"), tmp_path / "file")
    assert "\n" not in str(error.value)


def test_nothing_is_fetched_that_has_no_room(serve, tmp_path):
    behaviour = Behaviour([CONTENT])
    file = replace(remote(serve(behaviour)), size_bytes=10**18)
    with pytest.raises(InputError, match=r"1000000000\.0 GB are needed"):
        get(file, tmp_path / "file")
    assert behaviour.seen == []


def test_progress_is_told(serve, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(download, "SECONDS_BETWEEN_REPORTS", 0.0)
    caplog.set_level("INFO", logger="roireg")
    get(remote(serve(Behaviour([CONTENT]))), tmp_path / "file")
    assert any("of 3 MB" in message and message.endswith("0 s left") for message in caplog.messages)


# The archive


@pytest.fixture
def dataset(tmp_path) -> Path:
    path = tmp_path / "source" / "full.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["proj-params/extrinsic"] = np.eye(4)
        file["noise"] = np.frombuffer(CONTENT, np.uint8)
    return path


def test_the_dataset_is_found_fetched_and_unpacked(serve, tmp_path, dataset):
    content = zipped(tmp_path / "full.zip", {"readme.txt": b"hello", "full.h5": dataset.read_bytes()})
    behaviour = Behaviour([content], cuts=[len(content) // 2, None], metadata=described(content))
    path = tmp_path / "out" / "full_resolution.h5"
    download_deepfluoro(path, server=serve(behaviour), patience=HASTY)
    assert path.read_bytes() == dataset.read_bytes()
    assert [left.name for left in path.parent.iterdir()] == [path.name]


def test_a_pinned_checksum_overrides_the_archives(serve, tmp_path, dataset):
    content = zipped(tmp_path / "full.zip", {"full.h5": dataset.read_bytes()})
    server = serve(Behaviour([content], metadata=described(content, md5="0" * 32, checksum=None)))
    pinned = hashlib.sha256(content).hexdigest()
    download_deepfluoro(tmp_path / "out.h5", pinned.upper(), server, HASTY)
    assert (tmp_path / "out.h5").read_bytes() == dataset.read_bytes()
    with pytest.raises(InputError, match="its sha256 is"):
        download_deepfluoro(tmp_path / "other.h5", "0" * 64, server, HASTY)
    with pytest.raises(InputError, match="its md5 is"):
        download_deepfluoro(tmp_path / "other.h5", None, server, HASTY)
    assert not (tmp_path / "other.h5").exists()


def test_stronger_checksums_of_the_archive_are_used(serve, tmp_path):
    checksum = {"type": "SHA-512", "value": hashlib.sha512(CONTENT).hexdigest()}
    server = serve(Behaviour([CONTENT], metadata=described(CONTENT, checksum=checksum)))
    with new_session() as session:
        found = remote_file(session, server)
    assert (found.algorithm, found.digest, found.size_bytes) == ("sha512", checksum["value"], len(CONTENT))


@pytest.mark.parametrize("metadata", [{}, {"data": []}, [1], described(CONTENT, filesize="large"), "text"])
def test_metadata_that_make_no_sense_are_one_line(serve, tmp_path, metadata):
    with pytest.raises(InputError, match="metadata cannot be read"):
        download_deepfluoro(tmp_path / "out.h5", server=serve(Behaviour([CONTENT], metadata=metadata)))


def test_an_archive_that_no_longer_has_the_file_says_so(serve, tmp_path):
    server = serve(Behaviour([CONTENT], metadata=described(CONTENT, persistentId=f"{DATASET_ID}/NEW")))
    with pytest.raises(InputError, match=r"no longer lists.*dataset\.path"):
        download_deepfluoro(tmp_path / "out.h5", server=server)


def test_a_file_that_is_not_zipped_is_taken_as_it_is(tmp_path, dataset):
    expected = dataset.read_bytes()
    unpack(dataset, tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == expected


@pytest.mark.parametrize(("members", "fault"), [({"a.txt": b""}, "0 HDF5"), ({"a.h5": b"", "b.h5": b""}, "2 HDF5")])
def test_an_archive_with_no_or_several_datasets_is_refused(tmp_path, members, fault):
    zipped(tmp_path / "a.zip", members)
    with pytest.raises(InputError, match=fault):
        unpack(tmp_path / "a.zip", tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_a_damaged_archive_is_refused(tmp_path, dataset):
    content = bytearray(zipped(tmp_path / "a.zip", {"a.h5": dataset.read_bytes()}))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match="damaged ZIP"):
        unpack(tmp_path / "a.zip", tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_neither_zip_nor_hdf5_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"<html>")
    with pytest.raises(InputError, match="neither a ZIP archive nor an HDF5 file"):
        unpack(tmp_path / "a", tmp_path / "out.h5")

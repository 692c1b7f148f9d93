"""Any place: no home, a foreign user, a full disk, a folder that cannot be written, another locale, any name."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from own_patient import write_volume

from roireg import places
from roireg.errors import InputError
from roireg.files import atomic_hdf5, check_writable

SOURCE = Path(__file__).parents[2] / "src"
FRAME = np.diag([8.0, 8.0, 8.0, 1.0])
HU = np.full((20, 24, 28), -1000, np.int16)
HU[2:-2, 4:-4, 4:-4] = 40
HU[3:9, 6:12, 6:20] = 900
HU += np.random.default_rng(0).integers(-5, 5, HU.shape).astype(np.int16)
ROOT = os.getuid() == 0


def roireg(*arguments, user=None, **environment):
    """The command in a process of its own."""
    keep = {key: os.environ[key] for key in ("PATH", "OMP_NUM_THREADS") if key in os.environ}
    code = "from roireg.cli.app import app; app()"
    return subprocess.run(
        [sys.executable, "-B", "-c", code, *map(str, arguments)],
        env={**keep, "PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        user=user,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/nonexistent", "LC_ALL": "C"},
        {"HOME": "/nonexistent", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"HOME": "/nonexistent", "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
    ],
    ids=["no home", "C", "Latin-1"],
)
def test_inspect_runs_without_a_home_and_in_any_locale(tmp_path, environment):
    path = write_volume(tmp_path / "Müller $x$ {a} [b].nii.gz", HU, FRAME)
    done = roireg("inspect", path, **environment)
    assert done.returncode == 0, done.stderr.decode()
    assert "28 x 24 x 20" in done.stdout.decode("utf-8")
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_numba_and_monai_start_as_a_user_without_name_or_home(tmp_path):
    code = "import roireg.drr, numba, monai, matplotlib.pyplot; from roireg.drr import _march; print('started')"
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-c", code],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            user=65534,
            group=65534,
            extra_groups=[],
            cwd="/",
            check=False,
            timeout=300,
        )
    except PermissionError:
        pytest.skip("another user cannot run this Python")
    assert "started" in done.stdout, done.stderr


def test_caches_go_to_a_private_folder_where_nothing_else_can_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "_writable", lambda folder: False)
    monkeypatch.setattr(places, "_known_user", lambda: False)
    monkeypatch.setattr(places.tempfile, "tempdir", str(tmp_path))
    for name in (*places.CACHES, "USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    places.prepare_places()
    for name in places.CACHES:
        assert os.environ[name].startswith(str(tmp_path))
    assert os.environ["LOGNAME"] == f"uid{os.getuid()}"
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_planted_folder_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(places.tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"locks-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    assert places.private_folder("locks") != planted


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A file system of 1 MB."""
    folder = tmp_path_factory.mktemp("disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk):
    target = small_disk / "pool.h5"
    target.write_bytes(b"old")
    values = np.random.default_rng(0).random(500_000)
    with pytest.raises(InputError, match="disk is full"), atomic_hdf5(target) as file:
        file["values"] = values
    assert target.read_bytes() == b"old"
    assert [one.name for one in small_disk.iterdir()] == ["pool.h5"]
    with atomic_hdf5(target) as file:
        file["values"] = values[:1000]
    with h5py.File(target) as file:
        np.testing.assert_array_equal(file["values"][()], values[:1000])


def test_an_output_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path):
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(taken)
    check_writable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "empty", "missing", "loop"])
def test_what_is_no_regular_file_is_one_line(tmp_path, kind):
    path = tmp_path / "ct.nii.gz"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "loop":
        path.symlink_to(path)
    done = roireg("inspect", path)
    assert done.returncode == 1
    lines = done.stderr.decode().strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")

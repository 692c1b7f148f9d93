"""What `import roireg` offers, and what it does not load."""

import textwrap
from pathlib import Path

import pytest
from imports import loaded_by
from own_patient import carm_camera, write_chest_files

import roireg
from roireg.geometry.poses import carm_pose

PACKAGE = Path(roireg.__file__).parent
HEAVY = {"torch", "numpy", "numba", "scipy", "pandas", "SimpleITK", "pydantic", "matplotlib", "snakemake"}


def test_importing_the_package_loads_no_library():
    assert loaded_by("import roireg; roireg.__version__; dir(roireg)") & HEAVY == set()


def test_an_error_is_there_without_torch():
    assert loaded_by("from roireg import InputError") & HEAVY == set()


def test_registering_loads_no_compiler_of_torch():
    loaded_by("import sys, roireg.register.run; assert 'torch._dynamo' not in sys.modules")


@pytest.mark.parametrize("module", ["tables.table1", "tables.table3", "figures.errors", "figures.learning_curves"])
def test_tables_and_plots_of_numbers_load_no_torch(module):
    assert "torch" not in loaded_by(f"import roireg.data.results, roireg.{module}")


def test_the_public_names_are_there_and_documented():
    assert len(roireg.__all__) > 10
    assert dir(roireg) == roireg.__all__
    for name in roireg.__all__:
        assert getattr(roireg, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = roireg.no_such_thing


def test_type_checkers_find_the_types():
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "__init__.pyi").is_file()


def test_the_example_of_the_package_runs(tmp_path, monkeypatch, capsys):
    write_chest_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = [line for line in roireg.__doc__.splitlines() if line.startswith("    ") or not line.strip()]
    exec(textwrap.dedent("\n".join(blocks)), names := {})
    assert capsys.readouterr().out.startswith("trusted tensor([[")
    assert names["drr"].shape == (1, *names["xray"].image.shape)
    assert names["again"].verdict.grade == "trusted"
    stored = roireg.read_pose("out/pose.json")
    assert stored.pose.tolist() == names["result"].pose.tolist()


def test_a_written_pose_is_read_back(tmp_path):
    camera = carm_camera(64)
    pose = carm_pose(camera.intrinsics_px.new_tensor([10.0, -20.0, 30.0]), 700.0, 20.0, 5.0)
    roireg.write_pose(tmp_path / "pose.json", pose, camera)
    stored = roireg.read_pose(tmp_path / "pose.json")
    assert stored.pose.tolist() == pose.tolist()
    assert stored.camera.intrinsics_px.tolist() == camera.intrinsics_px.tolist()
    assert (stored.camera.height, stored.camera.width) == (camera.height, camera.width)

"""The checks of shapes that run with every test (tests/shapes.py) are on, and leave out only what Numba compiles."""

import pytest
import torch
from jaxtyping import TypeCheckError
from shapes import SOURCES, checked_modules

from roireg.geometry.camera import project
from roireg.geometry.se3 import invert


def test_a_wrong_shape_is_found():
    with pytest.raises(TypeCheckError, match="transform"):
        invert(torch.eye(3))


def test_sizes_of_one_name_have_to_agree():
    from roireg.metrics.overlap import dice_of_each

    with pytest.raises(TypeCheckError, match="second"):
        dice_of_each(torch.ones(2, 4, 4), torch.ones(2, 4, 5))


def test_what_is_checked_still_has_its_name_and_documentation():
    assert project.__name__ == "project"
    assert project.__doc__


def test_all_modules_are_checked_but_those_that_numba_compiles():
    paths = (path for path in (SOURCES / "roireg").rglob("*.py") if path.name != "__init__.py")
    every = {".".join(path.relative_to(SOURCES).with_suffix("").parts) for path in paths}
    assert len(every) > 200
    assert every - set(checked_modules()) == {
        "roireg.demo.warp",
        "roireg.drr._march",
        "roireg.simulation._siddon",
        "roireg.simulation.xray_formation",
    }

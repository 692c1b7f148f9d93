"""The fingerprint of code changes with what the code does, and with nothing else."""

import os
import re
from pathlib import Path

import pytest

import roireg
from roireg.workflow.provenance import code_digest, code_files

ROOT = Path(__file__).parents[3]
SCRIPT = '''"""A script."""

from roireg.job import job

with job("log"):
    from roireg.direct import run
    from roireg import beside

    run(1)
'''
MODULES = {
    "__init__": '"""The package."""\n',
    "job": "def job(log):\n    return log\n",
    "direct": '"""What the script imports."""\n\n\ndef run(x):\n    """Run it."""\n'
    "    from roireg.package.deep import SCALE\n\n    return SCALE * x  # doubled\n",
    "beside": "import numpy\n\nVALUE = 3\n",
    "package/__init__": "from roireg.package.sibling import NAME\n",
    "package/deep": "SCALE = 2\n",
    "package/sibling": "NAME = 'sibling'\n",
    "package/unused": "VALUE = 1\n",
    "unused": "from roireg.direct import run\n\nVALUE = 1\n",
}


@pytest.fixture
def project(tmp_path) -> Path:
    for name, text in MODULES.items():
        path = tmp_path / "src" / "roireg" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def digest(project: Path) -> str:
    return code_digest(project / "script.py", project / "src")


def edit(project: Path, name: str, old: str, new: str) -> None:
    path = project / "script.py" if name == "script" else project / "src" / "roireg" / f"{name}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_files_are_the_script_and_what_it_imports(project):
    names = {str(path.relative_to(project)) for path in code_files(project / "script.py", project / "src")}
    library = {"job", "direct", "beside", "package/__init__", "package/deep", "package/sibling"}
    assert names == {"script.py"} | {f"src/roireg/{name}.py" for name in library}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("direct", "  # doubled", "  # twice"),
        ("direct", "  # doubled", ""),
        ("direct", '    """Run it."""\n', '    """Run it, slowly.\n\n    Args:\n        x: a number.\n    """\n'),
        ("direct", '"""What the script imports."""', '"""Anything."""'),
        ("direct", "return SCALE * x", "return (\n        SCALE\n        * x\n    )"),
        ("package/sibling", "'sibling'", '"sibling"'),
        ("beside", "VALUE = 3", "VALUE   =   3\n\n\n"),
        ("script", '"""A script."""', '"""The script."""'),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(project, name, old, new):
    before = digest(project)
    edit(project, name, old, new)
    assert digest(project) == before


def test_file_times_do_not_count(project):
    before = digest(project)
    for path in project.rglob("*.py"):
        os.utime(path, (1, 1))
    assert digest(project) == before


def test_where_the_script_lies_beside_the_package_does_not_count(project):
    expected = digest(project)
    for folder in ("a", "z"):
        moved = project / folder / "script.py"
        moved.parent.mkdir()
        moved.write_text((project / "script.py").read_text())
        assert code_digest(moved, project / "src") == expected


def test_the_place_of_the_checkout_does_not_count(project, tmp_path_factory):
    before = digest(project)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "checkout"
    project.rename(elsewhere)
    assert digest(elsewhere) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("script", "run(1)", "run(2)"),
        ("direct", "SCALE * x", "SCALE + x"),
        ("direct", "def run(x)", "def run(x, y=0)"),
        ("job", "return log", "return None"),
        ("beside", "VALUE = 3", "VALUE = 3.0"),
        ("package/deep", "SCALE = 2", "SCALE = 4"),
        ("package/sibling", "'sibling'", "'other'"),
        ("package/__init__", "sibling import NAME", "sibling import NAME as OTHER"),
    ],
)
def test_an_edit_of_what_is_imported_counts(project, name, old, new):
    before = digest(project)
    edit(project, name, old, new)
    assert digest(project) != before


@pytest.mark.parametrize("name", ["unused", "package/unused"])
def test_an_edit_of_what_is_not_imported_does_not_count(project, name):
    before = digest(project)
    edit(project, name, "VALUE = 1", "VALUE = 2")
    assert digest(project) == before


def test_a_new_import_counts_with_all_that_it_brings(project):
    edit(project, "beside", "import numpy", "import roireg.package.unused")
    before = digest(project)
    edit(project, "package/unused", "VALUE = 1", "VALUE = 2")
    assert digest(project) != before


def test_the_digest_names_equal_code_equally(project):
    assert digest(project) == digest(project)
    assert len(digest(project)) == 16


SCRIPTS = sorted(path.stem for path in (ROOT / "workflow_scripts").glob("*.py"))
NETWORKS = {"train_segmenter"}
DICE = {"segment_dice", "segmentations"}
ENCODERS = {"train_encoder", "estimate_poses"}
ALL_TABLES = {"table1", "table2", "table3", "ablation", "bones"}
LEARN = {*NETWORKS, *DICE, *ENCODERS}
FROM_DRRS = {"synthesize_drrs", *LEARN, "register", "estimate"}
DRAWN = {"figure1", "figure4", "figure5", "segmentations", "errors", "capture_range", "convergence", "learning_curves"}

# Scripts that an edit of a module reruns, one row for each layer and kind of module.
USERS = {
    "simulation/xray_formation": {"make_demo_dataset"},
    "data/deepfluoro_archive": {"download_deepfluoro"},
    "data/prepare": {"prepare_specimen", "register_bones"},
    "data/preprocess": {"prepare_specimen", "register_bones", "check_dataset"},
    "metrics/similarity": {"train_encoder", "register", "estimate", "check_dataset"},
    "metrics/statistics": {*ALL_TABLES, "errors", "capture_range"},
    "encode/losses": {"train_encoder", "estimate"},
    "encode/estimates": {"estimate_poses"},
    "__init__": set(),
    "register/adam": {"register", "estimate"},
    "register/roi": {"register", "estimate"},
    "register/gauss_newton": {"register", "register_bones", "estimate"},
    "register/bone_descent": {"register_bones"},
    "training/loop": {*NETWORKS, "train_encoder", "learning_curves", "estimate"},
    "segment/unet": {*NETWORKS, *DICE, "figure5", "train_encoder", "register", "estimate"},
    # Known to a rule by the segmenter's type: tests/workflow/test_reruns.py.
    "segment/train_unet": set(),
    "figures/anatomy": {"figure1", "segmentations"},
    "figures/figure4": {"figure4"},
    "figures/figure5": {"figure5"},
    "figures/errors": {"errors", "capture_range"},
    "figures/convergence": {"convergence"},
    "figures/learning_curves": {"learning_curves"},
    "figures/style": {*DRAWN, "check_dataset"},
    "tables/table": ALL_TABLES,
    "tables/table1": {"table1"},
    "tables/table2": {"table2"},
    "tables/table3": {"table3"},
    "tables/ablation": {"ablation"},
    "tables/bones": {"bones"},
    "tables/trust": {"table1", "bones"},
    "check/hypotheses": {"check_dataset"},
    "report/gallery": {"report_html"},
    "workflow/provenance": set(),
    "cli/app": set(),
}


@pytest.fixture(scope="module")
def files_of():
    return {
        script: {
            path.relative_to(ROOT / "src" / "roireg").with_suffix("").as_posix()
            for path in code_files(ROOT / "workflow_scripts" / f"{script}.py", ROOT / "src")
            if path.is_relative_to(ROOT / "src")
        }
        for script in SCRIPTS
    }


@pytest.mark.parametrize(("module", "scripts"), USERS.items(), ids=USERS)
def test_an_edit_of_a_module_reruns_the_scripts_that_use_it_and_no_other(files_of, module, scripts):
    assert (ROOT / "src" / "roireg" / f"{module}.py").is_file()
    assert {script for script in SCRIPTS if module in files_of[script]} == scripts


def test_no_code_imports_through_the_package_what_the_hash_would_not_see():
    sources = [*(ROOT / "src" / "roireg").rglob("*.py"), *(ROOT / "workflow_scripts").glob("*.py")]
    assert len(sources) > 150
    public = re.compile(
        rf"from roireg import .*\b({'|'.join(roireg.__all__)})\b|roireg\.({'|'.join(roireg.__all__)})\("
    )
    found = {path.name for path in sources if public.search(path.read_text())}
    assert found == {"__init__.py"}, "whose docstring shows how"


def test_a_template_counts_where_the_code_of_its_package_does(project):
    package = project / "src" / "roireg" / "package"
    before = digest(project)
    (package / "page.html").write_text("<p>")
    with_page = digest(project)
    (package / "page.html").write_text("<b>")
    assert len({before, with_page, digest(project)}) == 3
    (package / "notes.txt").write_text("not a template")
    (project / "src" / "roireg" / "other.css").write_text("a package that nothing of is imported through")
    after = digest(project)
    (package / "notes.txt").unlink()
    assert after == digest(project)

"""A run with its results in another folder than the workflow, and on a disk without room."""

import subprocess

import pytest


def test_results_may_lie_in_another_folder(fresh, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    result = fresh.plan("--directory", str(elsewhere))
    assert result.status == 0, result.output
    assert result.jobs["report_html"] == 1
    assert not (fresh.folder / ".snakemake").exists()


def test_a_config_in_that_folder_is_laid_over_the_defaults(fresh, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "config.yaml").write_text("demo: {specimens: 5}\n")
    # The smoke configuration counts more: it sets two.
    assert fresh.plan("--directory", str(elsewhere), "data").jobs["prepare_specimen"] == 2
    (elsewhere / "config.yaml").write_text("dataset: {specimens: [demo-01, demo-02, demo-03]}\n")
    assert fresh.plan("--directory", str(elsewhere), "data").jobs["prepare_specimen"] == 3


def test_a_run_that_does_not_fit_on_the_disk_ends_before_its_first_job(fresh, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        result = fresh.run("--directory", str(disk))
        assert result.status == 1
        assert f"error: {disk}: the run will write about" in result.output
        assert "Make space, or give another folder with --directory" in result.output
        assert "Traceback" not in result.output
        assert not (disk / "results").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)

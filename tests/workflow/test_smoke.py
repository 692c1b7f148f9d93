"""What the smoke run leaves behind, and that running it again does nothing."""

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread
from volumes import gradient_errors, image_error

from roireg.data.deepfluoro import projection_names, read_ct, read_parameters, read_projection, specimen_names
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.records import read_specimen
from roireg.geometry.camera import project, rotate_image_180
from roireg.geometry.conversions import pose_from_deepfluoro
from roireg.workflow.config import default_config
from roireg.workflow.disk_space import Job, job_bytes

METHODS = ("diffdrr", "psss", "diffpose", "wsreg", "ours", "ours+gn", "multi_start+gn")
ENCODERS = ("psss", "diffpose", "ours")
CONTRACT = [
    *("specimen", "projection", "method", "init", "similarity", "roi", "optimizer", "weights"),
    *("views", "seed", "init_mpd_mm"),
    *("mpd_mm", "mrpd_mm", "tre_mm", "mpd_legacy", "rotation_deg", "translation_mm"),
    *("iterations", "seconds", "objective"),
    *("verdict", "fallback", "ncc", "coverage", "projection_sd_mm", "across_sd_mm", "down_sd_mm", "depth_sd_mm"),
    *(f"rotation_{axis}_sd_deg" for axis in "xyz"),
    *(f"pose_{row}{column}" for row in range(3) for column in range(4)),
]


def test_a_second_run_does_nothing(smoke):
    result = smoke.run()
    assert result.status == 0
    assert "Nothing to be done" in result.output


def test_touching_every_source_file_reruns_nothing(smoke):
    for path in [*smoke.folder.glob("src/**/*.py"), *smoke.folder.glob("workflow_scripts/*.py")]:
        path.touch()
    assert "Nothing to be done" in smoke.run("-n").output


def test_registrations_follow_the_results_contract(smoke):
    for method in METHODS:
        for specimen in ("demo-01", "demo-02"):
            path = smoke.folder / f"results/smoke/registrations/{method}/{specimen}.csv"
            rows = pd.read_csv(path, dtype={"projection": str})
            assert list(rows.columns) == CONTRACT
            assert rows["projection"].tolist() == ["000", "001"]
            assert (rows["method"] == method).all()
            most = 3 * 20 if method.endswith("+gn") else 12
            assert rows["iterations"].between(1, most).all()
            assert method.endswith("+gn") or (rows["iterations"] == most).all()
            assert np.isfinite(rows.select_dtypes("number").to_numpy()).all()


def test_methods_of_one_start_begin_at_the_same_poses(smoke):
    folder = smoke.folder / "results/smoke/registrations"
    adam, newton = (pd.read_csv(folder / name / "demo-01.csv") for name in ("ours", "ours+gn"))
    assert adam["init_mpd_mm"].tolist() == newton["init_mpd_mm"].tolist()
    assert adam["mpd_mm"].tolist() != newton["mpd_mm"].tolist()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_method_starts_where_its_encoder_sees_the_patient(smoke, encoder):
    folder = smoke.folder / "results/smoke"
    estimates = pd.read_csv(folder / f"encoders/{encoder}/demo-02/poses.csv", dtype={"projection": str})
    rows = pd.read_csv(folder / f"registrations/{encoder}/demo-02.csv", dtype={"projection": str})
    assert estimates["projection"].tolist() == rows["projection"].tolist() == ["000", "001"]
    np.testing.assert_allclose(estimates["mpd_mm"], rows["init_mpd_mm"])
    assert (rows["seconds"] > estimates["seconds"]).all()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_leaves_its_model_its_facts_and_its_learning_curve(smoke, encoder):
    for specimen in ("demo-01", "demo-02"):
        folder = smoke.folder / f"results/smoke/encoders/{encoder}/{specimen}"
        assert sorted(path.name for path in folder.iterdir()) == [
            "history.csv",
            "metrics.json",
            "model.safetensors",
            "poses.csv",
        ]
        history = pd.read_csv(folder / "history.csv")
        assert history["epoch"].tolist() == [0, 1]
        assert ("reconstruction" in history) == (encoder == "psss")
        assert ("dice" in history) == (encoder == "ours")
        if encoder == "ours":  # its image terms join halfway
            assert history[["dice", "similarity"]].isna().all(axis=1).tolist() == [True, False]
        assert np.isfinite(history.iloc[-1].to_numpy()).all()


def test_traces_start_and_end_where_the_rows_say(smoke):
    rows = pd.read_csv(smoke.folder / "results/smoke/registrations/ours/demo-02.csv", dtype={"projection": str})
    with h5py.File(smoke.folder / "results/smoke/traces/ours/demo-02.h5") as file:
        for _, row in rows.iterrows():
            trace = file[row["projection"]]
            assert trace["poses"].shape == (13, 4, 4)
            assert trace["mpd_mm"][0] == row["init_mpd_mm"]
            best = trace.attrs["best"]
            assert np.isclose(trace["mpd_mm"][best], row["mpd_mm"])
            assert trace["objective"][best] == trace["objective"][()].min()


def test_the_table_shows_every_method_the_papers_figure_and_what_was_reduced(smoke):
    text = (smoke.folder / "results/smoke/tables/table1.md").read_text()
    assert "25.08 ± 24.01" in text
    assert "Smoke test with 12 iterations" in text
    assert [line.split("|")[1].strip() for line in text.splitlines()[2:9]] == [
        "DiffDRR",
        "PSSS-style",
        "DiffPose",
        "WSReg, as published",
        "Ours",
        "Ours, Gauss-Newton",
        "Multi-start, Gauss-Newton",
    ]
    numbers = pd.read_csv(smoke.folder / "results/smoke/tables/table1.csv")
    assert numbers["xrays"].tolist() == [4] * len(METHODS)


def test_figures_are_pictures_with_something_on_them(smoke):
    pictures = sorted((smoke.folder / "results/smoke/figures").glob("**/*.png"))
    assert len(pictures) == 7 + len(("unet", "medsam"))
    for path in pictures:
        assert imread(path)[..., :3].std() > 0.05, path


def test_the_dataset_is_in_the_deepfluoro_layout(smoke):
    with open_dataset(smoke.folder / "results/smoke/dataset.h5") as file:
        assert specimen_names(file) == ["demo-01", "demo-02"]
        assert projection_names(file, "demo-01") == ["000", "001"]


def test_landmarks_of_the_dataset_reproject_with_and_without_the_half_turn(smoke):
    flags = set()
    with open_dataset(smoke.folder / "results/smoke/dataset.h5") as file:
        parameters = read_parameters(file)
        for name in specimen_names(file):
            landmarks = read_ct(file, name).landmarks_mm
            points = torch.from_numpy(np.stack(list(landmarks.values())))
            for key in projection_names(file, name):
                xray = read_projection(file, name, key, parameters)
                flags.add(xray.rotate_180_for_up)
                stored = torch.from_numpy(np.stack([xray.landmarks_px[landmark] for landmark in landmarks]))
                camera, pose = parameters.camera(), torch.from_numpy(xray.poses["cam-to-pelvis-vol"])
                pose = pose_from_deepfluoro(pose, torch.from_numpy(parameters.extrinsic))
                if xray.rotate_180_for_up:
                    camera, pose = rotate_image_180(camera, pose)
                    stored = torch.tensor([camera.width - 1.0, camera.height - 1.0]) - stored
                assert float((project(points, camera, pose) - stored).norm(dim=-1).max()) < 0.01
    assert flags == {True, False}


def test_backends_agree_with_diffdrr_on_the_demo_ct(smoke):
    volume = read_specimen(smoke.folder / "results/smoke/specimens/demo-01.h5")[0].volume
    assert image_error(volume, "fused") < 1e-5
    assert image_error(volume, "nanodrr") < 1e-3


@pytest.mark.parametrize("backend", ["fused", "nanodrr", "diffdrr"])
def test_pose_gradients_agree_with_central_differences_on_the_demo_ct(smoke, backend):
    volume = read_specimen(smoke.folder / "results/smoke/specimens/demo-01.h5")[0].volume
    assert max(gradient_errors(volume, backend)) < 1e-2


def test_the_report_is_one_file_with_the_table_and_captions(smoke):
    result = smoke.run("--report", "report.html")
    assert result.status == 0, result.output
    page = (smoke.folder / "report.html").read_text()
    assert "ROI-guided" in page
    assert "Comparison of methods" in page


def test_files_are_about_as_large_as_the_check_of_disk_space_says(smoke):
    config = default_config(smoke.folder / "config/smoke.yaml")
    results, xrays = smoke.folder / "results", {"demo-01": 2, "demo-02": 2}
    jobs = {
        "downloads/demo-ct/ct.nii.gz": Job("download_demo_ct", {}, ()),
        "smoke/dataset.h5": Job("make_demo_dataset", {}, ()),
        "smoke/specimens/demo-02.h5": Job("prepare_specimen", {"specimen": "demo-02"}, ()),
        "smoke/drrs/demo-02.h5": Job("synthesize_drrs", {"specimen": "demo-02"}, ()),
        "smoke/segmenters/medsam/demo-01/model.safetensors": Job("train_segmenter", {"segmenter": "medsam"}, ()),
    }
    for name, job in jobs.items():
        size = (results / name).stat().st_size
        assert 0.7 * size < job_bytes(job, config, xrays) < 1.5 * size, name

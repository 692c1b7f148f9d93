"""Register bones of one specimen, from a method's poses of the whole CT."""

from roireg.workflow.job import job, progress

with job(snakemake.log[0], snakemake.threads) as logger:
    from itertools import islice

    import pandas as pd
    import torch

    from roireg.data.pose_results import pose_of_row
    from roireg.data.prepare import large_settings, prepare_settings, prepare_xrays
    from roireg.data.readers.hdf5_file import open_dataset
    from roireg.data.records import read_specimen
    from roireg.data.results import read_registrations
    from roireg.files import write_csv
    from roireg.register.bone_registration import BoneSettings
    from roireg.register.bone_rows import bone_groups, register_specimen_bones

    # The renderer uses all cores; the images are too small for torch to benefit from more threads.
    torch.set_num_threads(1)
    params, inputs, name = snakemake.params, snakemake.input, snakemake.wildcards.specimen
    patient, _ = read_specimen(inputs.specimen)
    registrations = read_registrations([inputs.registrations])[: params.bones["xrays_per_specimen"]]
    starts = {row["projection"]: pose_of_row(row) for _, row in registrations.iterrows()}
    groups = bone_groups(params.bones["names"], params.bones["base"])
    spreads = {key: params.bones[key] for key in ("rotation_sd_deg", "translation_sd_mm")}
    with open_dataset(inputs.dataset) as file:
        settings = large_settings(file, prepare_settings(params.prepare), params.bones["image_size_px"])
        # As many as there are rows for: those are the first ones.
        xrays = islice(prepare_xrays(file, name, settings), len(starts))
        found = register_specimen_bones(
            patient, xrays, starts, groups, params.seed, BoneSettings(**spreads), params.bones["joints"]
        )
        rows = [row for of_xray in progress(found, len(starts), "X-ray") for row in of_xray]
    table = pd.DataFrame(rows)
    table.insert(2, "method", snakemake.wildcards.method)
    write_csv(snakemake.output[0], table)
    below = (table["mpd_mm"] < 2).mean()
    logger.info("%d bones in %d X-rays, mpd below 2 mm in %.0f%%", len(table), len(starts), 100 * below)

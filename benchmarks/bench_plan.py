"""Time that Snakemake takes to plan the paper's run, by the number of X-rays, with jobs of eight X-rays each."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
# Number of X-rays of DeepFluoro's specimens, used for the proportions of each total.
XRAYS = {"17-1882": 111, "18-1109": 24, "18-0725": 104, "18-2799": 24, "18-2800": 48, "17-1905": 55}
TOTALS = (366, 1000, 10_000)


def main() -> None:
    """Print jobs and seconds for each number of X-rays, and seconds relative to the first number."""
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for total in TOTALS:
            path, overlay = Path(folder) / f"{total}.h5", Path(folder) / f"{total}.yaml"
            with h5py.File(path, "w") as file:
                file.create_group("proj-params")
                for specimen, count in XRAYS.items():
                    for number in range(round(count * total / sum(XRAYS.values()))):
                        file.create_group(f"{specimen}/projections/{number:04d}")
            overlay.write_text(yaml.safe_dump({"dataset": {"path": str(path)}, "registration": {"xrays_per_job": 8}}))
            command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--configfile"]
            start = time.perf_counter()
            done = subprocess.run(
                [*command, "config/deepfluoro.yaml", str(overlay)],
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                check=True,
            )
            seconds = time.perf_counter() - start
            first = first or seconds
            jobs = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("total"))
            print(f"plan of {total} X-rays: {jobs} jobs, {seconds:.1f} s, {seconds / first:.1f} times the first")


if __name__ == "__main__":
    main()

"""ROI-guided, weakly supervised 2D/3D (X-ray to CT) registration.

To register an X-ray of your own patient:

    import roireg

    patient = roireg.read_patient("ct.nii.gz")
    xray = roireg.read_xray("xray.dcm")
    result = roireg.register_xrays(patient, [xray])
    print(result.verdict, result.pose)
    roireg.write_result("out", patient, result)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public names and their modules; imported on first use, so that `import roireg` is fast.
_API = {
    "read_patient": "roireg.data.readers.ct",
    "read_xray": "roireg.data.readers.xray",
    "register_xrays": "roireg.register.registration",
    "search_method": "roireg.register.method",
    "write_result": "roireg.report.result_files",
}


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'roireg' has no attribute {name!r}")
    return getattr(import_module(_API[name]), name)

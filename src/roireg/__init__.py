"""ROI-guided, weakly supervised 2D/3D (X-ray to CT) registration.

To register an X-ray of your own patient:

    import roireg

    patient = roireg.read_patient("ct.nii.gz")
    xray = roireg.read_xray("xray.dcm")
    result = roireg.register_xrays(patient, [xray])
    print(result.verdict.grade, result.pose)
    roireg.write_result("out", patient, result)

A pose is a 4x4 matrix `volume_from_camera`, from mm in the camera's frame to mm in the CT's (LPS). The DRR that belongs
to it, and another method than the default search:

    drr = roireg.render(patient.volume, xray.camera, result.pose[None])
    again = roireg.register_xrays(patient, [xray], roireg.search_method(exclude_margin_mm=6.0))

The stub `__init__.pyi` lists the public names. Each is imported when it is first used, and none of the library's own
modules imports one from here: a workflow job would not know on which code it depends.
"""

import lazy_loader

from roireg.places import prepare_places

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

prepare_places()

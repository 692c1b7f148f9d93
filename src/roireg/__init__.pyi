from .data.patient import Patient as Patient
from .data.readers.ct import read_patient as read_patient
from .data.readers.xray import read_xray as read_xray
from .data.writers.poses import read_pose as read_pose
from .data.writers.poses import write_pose as write_pose
from .data.xray import Xray as Xray
from .drr.render import render as render
from .errors import InputError as InputError
from .geometry.camera import Camera as Camera
from .metrics.pose_errors import registration_errors as registration_errors
from .register.method import search_method as search_method
from .register.registration import Registration as Registration
from .register.registration import register_xrays as register_xrays
from .report.result_files import write_result as write_result
from .workflow.named_method import method_by_name as method_by_name

__version__: str

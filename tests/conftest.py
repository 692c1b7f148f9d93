"""Settings of all tests, made before torch is imported."""

import os

# As in `roireg.job`: waiting pools of threads must not take the cores from working ones.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

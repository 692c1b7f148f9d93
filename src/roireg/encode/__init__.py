"""The preoperative stage: an encoder that reads a patient's pose from an X-ray (paper, section 2.1)."""

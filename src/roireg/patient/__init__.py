"""A user's own patient: CT and X-rays from NIfTI, DICOM and pictures, registration with a verdict, poses for others."""

"""Patients, X-rays and data sets: what they are, and how they are read and written."""

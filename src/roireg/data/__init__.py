"""Records of patients and X-rays, preprocessing, and reading and writing of files and data sets."""

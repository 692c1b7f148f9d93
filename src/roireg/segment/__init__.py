"""ROI segmentation of X-rays and DRRs: U-Net and MedSAM."""

"""Files that users bring: CTs, X-rays, label maps."""

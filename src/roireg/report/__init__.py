"""`report.html`: one self-contained page with the tables, the figures and X-rays."""

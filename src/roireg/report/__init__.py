"""The self-contained HTML report of a workflow run, and the result files of the command."""

"""The figures of the workflow and the overlay of the command, one module for each."""

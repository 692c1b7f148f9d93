"""Does a dataset mean what the conventions say? Evidence at the stored poses, and what it says to set or to correct."""

"""The demonstration: real sites with synthetic patients on this machine, one process each."""

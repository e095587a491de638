"""The metrics of a run: written, and read back."""

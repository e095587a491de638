"""The stages of fine-tuning, each a run in a folder of its own."""

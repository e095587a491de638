"""Puzzles whose answers a program checks: every method that samples, from the same fine-tuned policies."""

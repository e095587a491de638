"""Sampling, scoring, and the updates of every stage."""

"""Segments that compete, beside PPO on long dense episodes; and policies that remember."""

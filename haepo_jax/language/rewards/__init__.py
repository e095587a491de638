"""Rewards that a program computes: functions of prompts and completions, plain Python on the host."""

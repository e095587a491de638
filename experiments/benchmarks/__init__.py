"""The cost of training on this machine: measurements by the commands of `experiments`, never by tests."""

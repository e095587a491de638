"""What training costs on this machine: measurements by the commands of `experiments`, never by tests."""

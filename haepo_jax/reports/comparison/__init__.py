"""The page that compares runs on one task: curves, differing settings, and differences with their intervals."""

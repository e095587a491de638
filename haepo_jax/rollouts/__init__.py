"""Playing: episodes, their statistics, and segments."""

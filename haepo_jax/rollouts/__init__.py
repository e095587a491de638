"""Playing: complete episodes, their statistics, and segments of environments that carry on."""

"""Statistics of runs, verdicts, and tables. Folders are read by `runs.metrics.reader` alone; nothing here trains."""

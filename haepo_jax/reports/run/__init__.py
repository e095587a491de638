"""The page of a run without swept settings: its returns, its metrics, its settings and what it took."""

"""The page of a sweep, from its folder, by the statistics of `analysis/` and the figures and page of `reports/`."""

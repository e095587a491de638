"""The page of a sweep, from its folder. It stands above `analysis/`, whose statistics it uses, and `reporting/`."""

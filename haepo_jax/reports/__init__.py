"""Pages with figures and tables. Nothing here knows what a study measures."""

"""Population-based training beside random search: the runs, and the page that compares them."""

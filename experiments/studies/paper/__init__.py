"""One file a study: which runs it needs, and what their numbers say."""

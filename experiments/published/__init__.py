"""The numbers that documents quote: gathered from runs, kept in `docs/results.json`, written into the documents."""

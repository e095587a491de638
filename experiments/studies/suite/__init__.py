"""The suite: every method on many tasks, with one setting for all of them and tuned for each."""

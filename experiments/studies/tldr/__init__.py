"""The paper's third experiment, TL;DR summaries: what is run on the generated task, and the page that reports it."""

"""Data sets, prompts, the tokenizer, and the generated task."""

"""A run: from its settings to its complete folder, and back."""

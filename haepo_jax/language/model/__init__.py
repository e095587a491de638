"""The decoder: its sizes, layers, adapters, and layout on devices."""

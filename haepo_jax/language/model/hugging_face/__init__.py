"""Models as Hugging Face folders, read and written without the network."""

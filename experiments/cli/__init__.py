"""What the commands share: flags, config files, help, endings."""

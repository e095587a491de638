"""Common parts of the commands: flags, config files, help, endings."""

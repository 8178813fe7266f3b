"""What may be asked for: the options, checked before anything is started."""

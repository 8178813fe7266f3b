"""A container one can live in: what is asked for when it is started without args, and what a command in it is."""

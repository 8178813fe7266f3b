"""The command line for containers that outlive the command. Each verb loads what it needs alone."""

"""The command line: ``python -m pyminicon``. Each module is imported only by the command that needs it."""

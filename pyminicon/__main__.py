"""``python -m pyminicon``, and the ``pyminicon`` command."""

from pyminicon.cli.main import main

if __name__ == "__main__":
    main()

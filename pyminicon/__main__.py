"""``python -m pyminicon``, and the ``pyminicon`` command."""

import sys

# With -m the working directory comes first on the path (unless -I, -P or PYTHONSAFEPATH): its select.py isn't ours.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

from pyminicon.cli.main import main

if __name__ == "__main__":
    main()

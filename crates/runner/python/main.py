"""Starts the runner: `python -I main.py CONFIG`."""

import os
import sys


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    import luthier_host

    # The package must not find the runner's files under its own imports.
    sys.path.remove(here)
    luthier_host.run(sys.argv[1])


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Developer tool of the TGATE pack: `python3 tools/dev.py --help`.

A plain Python with pip is enough to start it; it fetches the rest into the user's cache folder.
"""

import sys

# Before any import and in syntax that every Python 3 reads: the modules of tgate_dev need 3.10 to parse.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.stderr.write(
        "This tool needs Python 3.10 or newer and was started with %d.%d: run it with a newer one, "  # noqa: UP031
        "for example 'python3.12 tools/dev.py'.\n" % sys.version_info[:2]
    )
    sys.exit(2)

from pathlib import Path

# A clone stays as it was checked out.
sys.dont_write_bytecode = True
# Python's safe path mode leaves the script's own folder out.
sys.path.insert(0, str(Path(__file__).absolute().parent))

from tgate_dev.bootstrap import run  # noqa: E402

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

"""``python -m worldmodel`` is the ``worldmodel`` command."""

from __future__ import annotations

import sys

from worldmodel.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m robustgen.cli`."""

import sys

from robustgen.cli import main

sys.exit(main())

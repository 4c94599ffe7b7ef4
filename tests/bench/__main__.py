"""``python -m tests.bench``: see :mod:`tests.bench.run`."""

import sys

from tests.bench.run import main


sys.exit(main())

"""What all tests share: how hard hypothesis looks, by HYPOTHESIS_PROFILE."""

import os

from hypothesis import settings


# No database: a regression becomes an @example beside its property.
for name, examples in {"dev": 50, "ci": 500, "deep": 20_000}.items():
    settings.register_profile(name, max_examples=examples, deadline=None, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

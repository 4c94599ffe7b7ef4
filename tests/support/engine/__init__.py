"""A Docker engine for tests, with the images that they run.

`engine` gives the environment of one: whatever engine answers already, else one that
is started here in a quiet mode, which leaves the machine's firewall and routes alone.
"""

from tests.support.engine.daemon import NoEngine
from tests.support.engine.use import engine


__all__ = ["NoEngine", "engine"]

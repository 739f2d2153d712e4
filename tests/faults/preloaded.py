"""What the nursery imports before it forks: the libraries of a worker, and nothing of Postroom's."""

import sys

import postroom.worker.main  # noqa: F401 - it brings the libraries

for name in [name for name in sys.modules if name.partition(".")[0] == "postroom"]:
    del sys.modules[name]

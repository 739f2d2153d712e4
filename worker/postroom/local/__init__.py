"""Local mode: `postroom up`, `check`, `build`, `send` and `letter` without a cluster, Docker or Java."""

"""`postroom up`: all of Postroom on one machine, without a cluster, Docker or Java."""

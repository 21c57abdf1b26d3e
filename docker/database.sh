#!/bin/bash
# Starts PostgreSQL by the image's own entrypoint, after a look at what a first start left behind that was cut off.
#
# The entrypoint takes any folder with PG_VERSION for a whole database. Without its roles it would stay unhealthy for ever.
set -euo pipefail
volume=$(dirname "$PGDATA")
whole=$volume/whole

asked="SELECT 'databases: ' || count(*) FROM pg_database WHERE datname IN ('mlflow', 'optuna') AND datacl IS NOT NULL"
if [ -e "$PGDATA" ] && [ ! -e "$whole" ]; then
  # Both databases with their rights: the last that the first start makes.
  if postgres --single -D "$PGDATA" postgres <<<"$asked" 2>/dev/null | grep -q 'databases: 2'; then
    touch "$whole"
  elif [ -n "$(ls -A "$PGDATA")" ]; then
    aside=$volume/cut-off-$(date -u +%Y%m%dT%H%M%SZ)
    mv "$PGDATA" "$aside"
    echo "the first start was cut off: $aside is what it left, without roles; starting anew" >&2
  fi
fi
exec docker-entrypoint.sh "$@"

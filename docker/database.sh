#!/bin/bash
# Starts PostgreSQL by the image's own entrypoint. Sees to a first start that was cut off, as by a power failure.
#
# The entrypoint takes any folder with PG_VERSION for a whole database. Without roles it would stay unhealthy for ever.
# `first-start` exists from the beginning of a first start until database-made.sh, its last step. Nobody connects before.
set -euo pipefail
volume=$(dirname "$PGDATA")

if [ -e "$volume/first-start" ] && [ -e "$PGDATA" ]; then
  aside=$volume/cut-off-$(date -u +%Y%m%dT%H%M%SZ)
  mv "$PGDATA" "$aside"
  echo "the first start was cut off; what it left is in $aside, and nothing was recorded in it; starting anew" >&2
fi
[ -s "$PGDATA/PG_VERSION" ] || touch "$volume/first-start"

# A child of the container's init, so that PostgreSQL does not wonder about it.
roles="SELECT count(*) FROM pg_roles WHERE rolname IN ('mlflow', 'optuna')"
(
  {
    until [ ! -e "$volume/first-start" ] && pg_isready -q -U postgres; do sleep 1; done
    if [ "$(psql -U postgres -d postgres -qtAc "$roles")" != 2 ]; then
      echo "this database lacks the roles mlflow and optuna: its first start was cut off, or it is another service's:" \
        "if nothing is recorded in it, docker compose down and docker volume rm mnist-ablate_db; else restore a backup" >&2
    fi
    for name in mlflow optuna; do
      PGPASSFILE=/run/secrets/${name}_pgpass psql -w -h 127.0.0.1 -U "$name" -d "$name" -qtAc "SELECT 1" >/dev/null 2>&1 ||
        echo "role $name cannot log in with secrets/${name}_pgpass: this database was made with other secrets:" \
          "restore the secrets folder of that time, then docker compose up -d --force-recreate" >&2
    done
  } &
)
exec docker-entrypoint.sh "$@"

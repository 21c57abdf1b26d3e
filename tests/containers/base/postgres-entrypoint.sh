#!/usr/bin/env bash
# Does what docker-compose.yml asks of the entrypoint of the official image `postgres`, for machines without a registry.
#
# Reads POSTGRES_PASSWORD_FILE, POSTGRES_INITDB_ARGS, PGDATA and /docker-entrypoint-initdb.d. As in the official image, a
# PGDATA with PG_VERSION is never initialized again, and any uid may run it (`user:` in Compose).
set -Eeuo pipefail

[ "$1" = postgres ] || exec "$@"
mkdir -p "$PGDATA"
chmod 0700 "$PGDATA"
if [ "$(id -u)" = 0 ]; then
  chown -R postgres "$PGDATA" /var/run/postgresql
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ -s "$PGDATA/PG_VERSION" ]; then
  echo "PostgreSQL Database directory appears to contain a database; Skipping initialization"
  exec "$@"
fi
if [ ! -s "${POSTGRES_PASSWORD_FILE:-}" ]; then
  echo "Error: Database is uninitialized and superuser password is not specified." >&2
  exit 1
fi

# initdb asks the password database for the name of its uid. The wrapper answers, as in the official image.
as_named=()
if ! getent passwd "$(id -u)" >/dev/null; then
  names=$(mktemp -d)
  echo "postgres:x:$(id -u):$(id -g)::$PGDATA:/bin/false" >"$names/passwd"
  echo "postgres:x:$(id -g):" >"$names/group"
  as_named=(env NSS_WRAPPER_PASSWD="$names/passwd" NSS_WRAPPER_GROUP="$names/group"
    LD_PRELOAD="$(echo /usr/lib/*/libnss_wrapper.so)")
fi
# shellcheck disable=SC2086 # a list of words
"${as_named[@]}" initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" ${POSTGRES_INITDB_ARGS:-}
printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"

# Nobody connects over TCP before the roles are made.
pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
for file in /docker-entrypoint-initdb.d/*; do
  case $file in
    *.sh) echo "$0: running $file" && bash "$file" ;;
    *.sql) echo "$0: running $file" && psql -v ON_ERROR_STOP=1 -X -U postgres -d postgres -f "$file" ;;
    *) echo "$0: ignoring $file" ;;
  esac
done
pg_ctl -D "$PGDATA" -m fast -w stop
echo "PostgreSQL init process complete; ready for start up."
exec "$@"

#!/bin/sh
# What the container runs. `serve` (the default) runs under Litestream when a bucket is configured; every other
# command (check, keys, health, …) goes to the binary as it is.
set -eu

if [ "${1:-serve}" != serve ]; then
  exec babychain "$@"
fi
[ $# -gt 0 ] || set -- serve

if [ -z "${BUCKET_NAME:-}" ]; then
  echo 'BUCKET_NAME is not set: the database is not replicated and lives on this volume only' >&2
  exec babychain "$@"
fi

if [ -z "${BABYCHAIN_MASTER_KEY:-}" ]; then
  echo 'BABYCHAIN_MASTER_KEY is not set: a restored database could not be decrypted on another volume' >&2
fi

# An empty volume is filled from the bucket; an existing database and an empty bucket are both left alone. If the
# bucket cannot be read this fails, and nothing starts: an empty database must not overwrite a full replica.
litestream restore -config /etc/litestream.yml -if-db-not-exists -if-replica-exists "$BABYCHAIN_DATA_DIR/babychain.db"

# SIGTERM goes to Litestream, which passes it on, waits for the server to drain and sends what is left to the bucket.
exec litestream replicate -config /etc/litestream.yml -exec "babychain $*"

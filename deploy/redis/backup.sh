#!/bin/sh
# Copies the append-only files of the running Redis to a folder: backup.sh FOLDER, which is made and must not be there.
# To restore, stop Redis, put the copy in the place of `appendonlydir`, and start Redis.
#   REDIS_PASSWORD_FILE  file of the password (needed, but with REDIS_SOCKET)
#   REDIS_DIR            where its files are (default: /data)
#   REDIS_PORT           where it answers (default: 6379)
#   REDIS_SOCKET         or the socket on which it does, as that of `greso serve`: <data-dir>/redis.sock
#   REDIS_CLI            program that asks it (default: redis-cli)
set -eu

target=${1:?names the folder of the copy}
if [ -z "${REDIS_SOCKET:-}" ] || [ -n "${REDIS_PASSWORD_FILE:-}" ]; then
    REDISCLI_AUTH=$(cat "${REDIS_PASSWORD_FILE:?names the file of the password}")
    export REDISCLI_AUTH
fi

ask() { "${REDIS_CLI:-redis-cli}" -p "${REDIS_PORT:-6379}" ${REDIS_SOCKET:+-s "$REDIS_SOCKET"} -e "$@"; }

# A rewrite would remove files while they are copied.
before=$(ask CONFIG GET auto-aof-rewrite-percentage | tail -n 1)
trap 'ask CONFIG SET auto-aof-rewrite-percentage "$before" >/dev/null' EXIT
trap 'exit 1' INT TERM HUP
ask CONFIG SET auto-aof-rewrite-percentage 0 >/dev/null
while ask INFO persistence | grep -Eq '^aof_rewrite_(in_progress|scheduled):1'; do sleep 1; done

mkdir "$target"
cp "${REDIS_DIR:-/data}"/appendonlydir/* "$target"
echo "copied to $target"

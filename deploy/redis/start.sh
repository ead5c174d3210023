#!/bin/sh
# Becomes the Redis server: redis.conf beside this file, and what differs from place to place.
#   REDIS_PASSWORD_FILE  file of the password (needed)
#   REDIS_MAXMEMORY      memory for data, as Redis writes it: 1gb (needed)
#   REDIS_APPENDFSYNC    everysec (default): a power cut costs the last second; always: nothing, and each report waits for the disk
#   REDIS_DIR            where its files are (default: /data)
# More arguments are options of redis-server.
set -eu

stop() { echo "start.sh: $1" >&2; exit 1; }

[ -r "${REDIS_PASSWORD_FILE:?names the file of the password}" ] || stop "$REDIS_PASSWORD_FILE can't be read by user $(id -u)"
password=$(cat "$REDIS_PASSWORD_FILE")
[ -n "$password" ] || stop "$REDIS_PASSWORD_FILE is empty; put the password into it"
case $password in
    *[!A-Za-z0-9._~+/=-]*) stop "the password may have letters, digits and . _ ~ + / = - only" ;;
esac

# The password comes by standard input: not an argument, which everyone on the machine may read.
exec redis-server "${0%/*}/redis.conf" --dir "${REDIS_DIR:-/data}" \
    --maxmemory "${REDIS_MAXMEMORY:?says how much memory}" --appendfsync "${REDIS_APPENDFSYNC:-everysec}" "$@" - <<PASSWORD
requirepass "$password"
PASSWORD

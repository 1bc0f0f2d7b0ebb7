#!/bin/sh
# Starts Valkey with one account, which may do what `mailmapd check` prints, and nobody else in; what it is told it writes down, and throws nothing away.
set -eu
umask 077
password=$(tr -d '\n' < "${SECRETS:-/run/secrets}/cluster-password" | sha256sum | cut -c 1-64)
cat > /tmp/users.acl <<ACL
user default off
user mailmapd on #$password ~mailmapd ~mailmapd:hosts +xadd +xread +xinfo|stream +info +hget +hset +hgetall +hdel +multi +exec +ping +hello +select
ACL
exec valkey-server --aclfile /tmp/users.acl --appendonly yes --maxmemory-policy noeviction "$@"

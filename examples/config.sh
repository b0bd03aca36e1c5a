#!/bin/sh
# Replace a configuration only by one that its program accepts, and keep the previous one beside it.
#
# Here `sh -n` plays that program. In practice it is `nginx -t -c`, `sshd -t -f`, `visudo -c -f` or `jq empty`.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

install_config() {
    # Single quotes: the shell that awrite starts expands AWRITE_NEW, the path of the complete new content.
    # shellcheck disable=SC2016
    awrite --backup --validate 'sh -n "$AWRITE_NEW"' settings.sh
}

echo 'PORT=80' | install_config
echo 'PORT=8080' | install_config
if echo 'PORT=(' | install_config; then
    echo 'a broken file was accepted' >&2
    exit 1
fi

[ "$(cat settings.sh)" = 'PORT=8080' ]
[ "$(cat settings.sh.backup)" = 'PORT=80' ]
ls

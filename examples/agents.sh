#!/bin/sh
# Several agents on one tree. Each takes a lease of the file that it is about to edit, works on a copy for as long as it
# takes, keeps the lease fresh, and writes back as the holder of the lease, if the file is still what it has read: a
# person's editor asks for no lease. A hook (guard, below) refuses to edit a file that somebody else has a lease of; an
# agent's tool runs it before each edit.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir tree
echo 'one' | awrite tree/plan.md
echo 'two' | awrite tree/notes.md

# guard AGENT FILE: status 0 if AGENT may edit FILE; otherwise says who has it, why and until when, and fails.
guard() {
    awrite-lock --json --status "$2" >"$dir/status.$1" && return 0
    # Held by a writer: that takes an instant, and the edit will wait for it. Only a lease lasts.
    grep -q '"leased":true' "$dir/status.$1" || return 0
    grep -qF "\"owner\":\"$1\"" "$dir/status.$1" && return 0
    awrite-lock --status "$2" >&2 || return 2
}

# edit AGENT FILE REASON COMMAND...: COMMAND changes a private copy, whose name it gets as its last argument. Status 2: the
# file is another's; 4: somebody has changed it meanwhile. Nothing is written then: read it again, and begin anew.
edit() {
    agent=$1 file=$2 reason=$3
    shift 3
    guard "$agent" "$file" || return 2
    # -n: another may have been faster since. The token tells this lease from all later ones.
    token=$(awrite-lock -n --acquire --owner "$agent" --ttl 10m --reason "$reason" "$file") || return 2
    # Read it once the lease is held. The digest comes first: a change between the two is found, too.
    base=$(awrite --digest "$file")
    cp "$file" "copy.$agent"
    outcome=0
    "$@" "copy.$agent" || outcome=$?
    # After each long step: false if somebody has broken the lease, or it expired and another took it.
    if [ "$outcome" = 0 ] && awrite-lock --refresh --owner "$agent" --token "$token" "$file"; then
        # Right before it replaces the file, awrite checks that the lease is still this one, and the file still that one.
        awrite --owner "$agent" --token "$token" --if-match "$base" -i "copy.$agent" "$file" || outcome=$?
    else
        [ "$outcome" != 0 ] || outcome=2
    fi
    rm -f "copy.$agent"
    awrite-lock --release --owner "$agent" --token "$token" "$file"
    return "$outcome"
}

slowly() {
    until [ -e go ]; do sleep 0.05; done
    echo 'by agent-1' >>"$1"
}
at_once() {
    echo 'by agent-2' >>"$1"
}

edit agent-1 tree/plan.md 'rewriting the plan' slowly &
until awrite-lock --list -r tree | grep -q leased; do sleep 0.05; done

# Who works on what.
awrite-lock --list -r tree

# agent-2 is refused, and told why; another file is free.
if edit agent-2 tree/plan.md 'a small change' at_once; then exit 1; fi
edit agent-2 tree/notes.md 'a small change' at_once

touch go
wait
edit agent-2 tree/plan.md 'a small change' at_once
cat tree/plan.md
[ "$(cat tree/plan.md)" = "one
by agent-1
by agent-2" ]

# Somebody without a lease is faster: the agent is told, and that change stays.
beside() {
    echo 'by a person' >>tree/notes.md
    echo 'by agent-1' >>"$1"
}
outcome=0
edit agent-1 tree/notes.md 'tidying up' beside || outcome=$?
[ "$outcome" = 4 ]
[ "$(tail -n 1 tree/notes.md)" = 'by a person' ]
edit agent-1 tree/notes.md 'tidying up' at_once

# A lease that nobody needs any more: whoever may write the file ends it, and an agent that works on finds out.
broken() {
    echo 'too late' >>"$1"
    awrite-lock --break tree/notes.md
}
outcome=0
edit agent-1 tree/notes.md 'forgotten' broken || outcome=$?
[ "$outcome" = 2 ]
[ -z "$(awrite-lock --list -r tree)" ]
# No lease, no lock, no copy.
[ "$(find tree -type f | sort | tr '\n' ' ')" = 'tree/notes.md tree/plan.md ' ]

#!/usr/bin/env fish
# Replace a configuration only by one that its program accepts, and keep the previous one beside it. This is config.sh
# for fish. Here `fish --no-execute` plays that program.
set dir (mktemp -d)
function leave --on-event fish_exit
    rm -rf $dir
end
cd $dir

function install_config
    # Single quotes: the shell that awrite starts expands AWRITE_NEW, the path of the complete new content.
    awrite --backup --validate 'fish --no-execute "$AWRITE_NEW"' settings.fish
end

echo 'set port 80' | install_config; or exit 1
echo 'set port 8080' | install_config; or exit 1
if echo 'set port (' | install_config
    echo 'a broken file was accepted' >&2
    exit 1
end

test (cat settings.fish) = 'set port 8080'; or exit 1
test (cat settings.fish.backup) = 'set port 80'; or exit 1

# Read-modify-write by several at once: no update is lost.
echo 0 | awrite n; or exit 1
for i in (seq 10)
    awrite --quiet n -- fish -c 'read n; math $n + 1' &
end
wait
test (cat n) = 10; or exit 1
ls -A

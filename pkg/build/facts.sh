#!/usr/bin/env bash
# Checks in a second or two that what is said in many files is the same everywhere: the repository and the maintainer,
# the version, and the links of README.md, which is also read outside of the repository.
#
#   facts.sh            check
#   facts.sh fill       first writes the names of common.sh in place of those that the files have now, and the links
#   facts.sh VERSION    check, and that everything is ready for the release of VERSION
#
# Links in README.md: a file that is in the published crate by its path; any other file by its address in the
# repository, REPOSITORY/blob/HEAD/PATH (a directory: tree/HEAD/PATH). So they work wherever the file is shown. Such an
# address stands at the end of the file, and in the text `[words][PATH]`.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

bad=0
wrong() {
    printf '%s\n' "$*" >&2
    bad=1
}
# has FILE TEXT...: each text is a part of a line of the file.
has() {
    local file=$1 text
    shift
    for text in "$@"; do grep -qF -- "$text" "$file" || wrong "$file: \"$text\" is not there"; done
}

if [ "${1:-}" = fill ]; then
    old_repository=$(sed -n 's/^repository = "\(.*\)"/\1/p' Cargo.toml)
    old_maintainer=$(sed -n 's/^Maintainer: //p' pkg/debian/control)
    [ -n "$old_repository" ] || die "Cargo.toml names no repository"
    [ -n "$old_maintainer" ] || die "pkg/debian/control names no maintainer"
    mapfile -t files < <(git grep -lF -e "$old_repository" -e "$old_maintainer")
    sed -i -e "s|$old_repository|$repository|g" -e "s|$old_maintainer|$maintainer|g" "${files[@]}"
fi

say "names"
has Cargo.toml "repository = \"$repository\"" "homepage = \"$repository\""
has pkg/debian/control "Maintainer: $maintainer" "Homepage: $repository" "Vcs-Browser: $repository" \
    "Vcs-Git: $repository.git"
has pkg/debian/copyright "Source: $repository"
has pkg/debian/changelog " -- $maintainer  "
has pkg/rpm/awrite.spec "URL:            $repository"
has SECURITY.md "$repository/security/advisories"
for template in pkg/arch/PKGBUILD pkg/alpine/APKBUILD; do has "$template" "# Maintainer: @MAINTAINER@"; done
# No other name for either, and nothing that somebody would have to fill in by hand.
while IFS= read -r found; do
    wrong "$found"
done < <(
    git grep -nE 'https?://git(hub|lab)\.com/[^/ ]+/awrite\b' | grep -vE "$repository([^-[:alnum:]]|\$)" || true
    git grep -nF "${maintainer%%<*}<" | grep -vF -e "$maintainer" -e pkg/build/facts.sh || true
    git grep -niE "placeholder|example\.org/awrite|'SKIP'|\b0{64}\b" -- pkg '*.md' Cargo.toml ':!pkg/build/facts.sh' || true
)

say "version $version"
top() { sed -n "s/$1/\\1/p" "$2" | head -n 1; }
same() { [ "$2" = "$version" ] || wrong "$1 is of version \"$2\", Cargo.toml of $version"; }
same pkg/debian/changelog "$(top '^awrite (\(.*\)-[0-9]*) .*' pkg/debian/changelog)"
same pkg/rpm/awrite.spec "$(top '^Version: *\(.*\)' pkg/rpm/awrite.spec)"
! grep -q '^%changelog' pkg/rpm/awrite.spec || same "%changelog of pkg/rpm/awrite.spec" \
    "$(sed '1,/^%changelog/d' pkg/rpm/awrite.spec | sed -n 's/^\* .*> \(- \)\?\(.*\)-[0-9]*$/\2/p' | head -n 1)"
same Cargo.lock "$(awk -v name="name = \"$crate\"" '$0 == name { getline; gsub(/.* = |"/, ""); print }' Cargo.lock)"
grep -qF "## [$version]" CHANGELOG.md || wrong "CHANGELOG.md has no section [$version]"
# Only these are filled in, and common.sh can fill them.
for template in pkg/arch/PKGBUILD pkg/alpine/APKBUILD pkg/homebrew/awrite.rb; do
    has "$template" @VERSION@ @REPOSITORY@ @SHA
done

say "links"
cargo package --list --locked --allow-dirty 2>/dev/null | sort >"$scratch/packed"
is_packed() { grep -qxF -- "$1" "$scratch/packed"; }
while IFS= read -r link; do
    path=${link%%#*}
    case $path in
        "$repository"/blob/HEAD/* | "$repository"/tree/HEAD/*)
            path=${path#"$repository"/*/HEAD/}
            [ -e "$path" ] || wrong "README.md: $link: there is no $path"
            ! is_packed "$path" || wrong "README.md: $link: the crate has it; say $path"
            ;;
        *://* | "") ;;
        *)
            kind=blob
            [ ! -d "$path" ] || kind=tree
            if is_packed "$path"; then
                :
            elif [ "${1:-}" = fill ] && [ -e "$path" ]; then
                sed -i "s|\](${link//./\\.})|][$link]|g" README.md
                # A definition cannot interrupt a paragraph.
                tail -n 1 README.md | grep -qe '^\[.*\]: ' -e '^$' || echo >>README.md
                grep -qF "[$link]: " README.md || echo "[$link]: $repository/$kind/HEAD/$link" >>README.md
            else
                wrong "README.md: $link: not in the crate; \`bash pkg/build/facts.sh fill\` writes the address"
            fi
            ;;
    esac
done < <(grep -oE '\]\([^)]+\)' README.md | sed 's/^](//; s/)$//' | sort -u; sed -n 's/^\[.*\]: //p' README.md)
# shellcheck disable=SC2016
mapfile -t used < <(sed 's/`[^`]*`//g' README.md | grep -oE '\]\[[^]]+\]' | tr -d '[]' | sort -u)
mapfile -t told < <(sed -n 's/^\[\(.*\)\]: .*/\1/p' README.md | sort -u)
while IFS= read -r label; do
    if [ "${1:-}" = fill ] && [[ " ${told[*]} " == *" $label "* ]]; then
        sed -i "\\|^\[${label//./\\.}\]: |d" README.md
    else
        wrong "README.md: [$label] is not both used and told"
    fi
done < <(printf '%s\n' "${used[@]}" "${told[@]}" | sort | uniq -u)

if [ -n "${1:-}" ] && [ "$1" != fill ]; then
    say "ready for $1"
    [ "$1" = "$version" ] || wrong "Cargo.toml is of version $version"
    grep -qE "^## \[$1\] - [0-9]{4}-[0-9]{2}-[0-9]{2}\$" CHANGELOG.md || wrong "CHANGELOG.md: no \"## [$1] - DATE\""
    ! grep -qF "## [Unreleased]" CHANGELOG.md ||
        ! sed -n '/^## \[Unreleased\]/,/^## \[[0-9]/p' CHANGELOG.md | grep -qv -e '^## ' -e '^$' ||
        wrong "CHANGELOG.md: what is unreleased belongs to $1"
    ! git status --porcelain | grep . >&2 || wrong "the tree has changes that are not committed"
fi
[ "$bad" = 0 ] || die "the files do not agree"

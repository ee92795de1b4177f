#!/bin/sh
# Makes the lock files of the catalogue's images anew: images/lock.sh
# Needs uv; resolves for the image's Python as of its release, whatever Python this machine has.
set -eu
cd "$(dirname "$0")"

made() { # LOCK PYTHON RELEASED
    {
        sed -n 's/^\([^#].*[^ ]\)  *# *\(.*\)$/# keep \1 for \2/p' constraints.txt
        uv pip compile libraries.in --constraint constraints.txt \
            --python-version "$2" --python-platform x86_64-manylinux_2_28 --exclude-newer "$3" \
            --only-binary :all: --generate-hashes --no-header --no-annotate --no-config --quiet
    } >"$1.new"
    mv "$1.new" "$1"
}

sed -n 's/^\(lock\|python\|released\) = "\(.*\)"$/\2/p' catalogue.toml | while read -r lock; do
    read -r python
    read -r released
    made "$lock" "$python" "$released" </dev/null
done

#!/bin/sh
# Checks the direction of includes: a layer may include itself, the layers named beside it, and
# styx.h. System libraries that belong to one layer may be included by no other.
set -eu
cd "$(dirname "$0")/.."

allowed='
base:
tape:    base
ref:     base tape
cpu:     base tape
cuda:    base tape
weights: base tape
model:   base tape
text:    base
sample:  base
image:   base
engine:  base tape ref cpu cuda weights model text sample image
'
libraries='
image:  png.h jpeglib.h jerror.h turbojpeg.h webp/
text:   utf8proc.h
cuda:   cuda cublas cudnn mma.h cooperative_groups
'

failures=$(mktemp)
trap 'rm -f "$failures"' EXIT

sources() { # the C files of a folder
    find "$1" -name '*.[ch]' -o -name '*.inc' -o -name '*.cu' -o -name '*.cuh' | sort
}

# Quoted includes: FILE and the path it names.
quoted() {
    grep -HoE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"[^"]+"' $(sources "$1") /dev/null |
        sed 's/:[^"]*"/ /; s/"$//' || true
}

echo "$allowed" | while IFS=: read -r layer others; do
    [ -d "src/${layer:-.none}" ] || continue
    quoted "src/$layer" | while read -r file name; do
        case $name in
        styx.h) continue ;;
        */*) target=${name%%/*} ;;
        *) target=$layer ;; # a neighbour
        esac
        case " $layer $others " in
        *" $target "*) ;;
        *) echo "$file includes $name: $layer may include only${others:- itself}" >>"$failures" ;;
        esac
    done
done

for folder in app examples; do
    [ -d "$folder" ] || continue
    quoted "$folder" | while read -r file name; do
        case $name in
        */*) echo "$file includes $name: $folder uses only styx.h" >>"$failures" ;;
        esac
    done
done

echo "$libraries" | while IFS=: read -r layer headers; do
    [ -n "$layer" ] || continue
    for header in $headers; do
        find src app '(' -name '*.[ch]' -o -name '*.inc' ')' ! -path "src/$layer/*" \
            -exec grep -HE "^#[[:space:]]*include[[:space:]]*<$header" {} + |
            sed "s/\$/  (belongs to src\/$layer)/" >>"$failures" || true
    done
done

if [ -s "$failures" ]; then
    cat "$failures"
    exit 1
fi
echo "layers: all includes point downwards"

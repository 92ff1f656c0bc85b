#!/bin/sh
# Installs the rivals in $RIVALS_DIR, each in a virtual environment of its own, and writes the
# random models. Nothing is done twice: remove a folder to make it anew.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
: "${RIVALS_DIR:?set it to a folder outside the repository with 25 GB of room}"
python=${PYTHON:-python3}
styx=${STYX:-$root/build/styx}
parts=${*:-torch models openvino onednn sdcpp sdcpp-llamafile}

onednn=onednn-devel-cpu-gomp==2023.2.0
sdcpp=stable-diffusion-cpp-python==0.4.7

venv() { # NAME PACKAGE...
    name=$1
    shift
    [ -e "$RIVALS_DIR/$name/ready" ] && return
    "$python" -m venv "$RIVALS_DIR/$name"
    "$RIVALS_DIR/$name/bin/pip" install -q "$@"
    touch "$RIVALS_DIR/$name/ready"
}

# From source, for this very CPU, as ggml's GGML_NATIVE is on by default; SDCPP_FLAGS names another
# (README.md). Both builds lie in the same folder, so the second compiles only what its flags change;
# picture formats are not needed.
sdcpp_venv() { # NAME CMAKE-ARGUMENT
    source=$RIVALS_DIR/sdcpp-source
    if [ ! -e "$source/pyproject.toml" ]; then
        mkdir -p "$source"
        "$python" -m pip download -q --no-deps --no-binary :all: -d "$source" "$sdcpp"
        tar -xf "$source"/*.tar.gz -C "$source" --strip-components 1
    fi
    CMAKE_ARGS="$2 -DSD_WEBP=OFF -DSD_WEBM=OFF ${SDCPP_FLAGS:-}" CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-$(nproc)} \
        venv "$1" --no-cache-dir -C build-dir="$source/build" "$source"
}

model() { # NAME
    [ -e "$RIVALS_DIR/$1/model_index.json" ] ||
        "$RIVALS_DIR/torch/bin/python" "$root/tools/random_model.py" "$1" "$RIVALS_DIR/$1"
    [ -e "$RIVALS_DIR/$1.safetensors" ] ||
        "$styx" convert "$RIVALS_DIR/$1" "$RIVALS_DIR/$1.safetensors"
}

mkdir -p "$RIVALS_DIR"
for part in $parts; do
    echo "== $part"
    case $part in
    models)
        model sd15
        model sdxl
        ;;
    openvino)
        OMP_NUM_THREADS=$(nproc) "$RIVALS_DIR/torch/bin/python" "$here/run_diffusers.py" \
            openvino-export "$RIVALS_DIR/sd15" 0
        ;;
    onednn)
        venv onednn "$onednn"
        cc -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -o "$RIVALS_DIR/onednn/bin/onednn" \
            "$here/onednn.c" -I"$RIVALS_DIR/onednn/include" -L"$RIVALS_DIR/onednn/lib" \
            -Wl,-rpath,"$RIVALS_DIR/onednn/lib" -ldnnl -lm
        ;;
    sdcpp) sdcpp_venv sdcpp -DGGML_LLAMAFILE=OFF ;;
    sdcpp-llamafile) sdcpp_venv sdcpp-llamafile -DGGML_LLAMAFILE=ON ;;
    torch)
        venv torch torch==2.15.0 diffusers==0.42.1 transformers==5.23.0 accelerate \
            openvino==2026.4.1
        ;;
    *) echo "setup.sh: no part is called $part" >&2 && exit 1 ;;
    esac
done

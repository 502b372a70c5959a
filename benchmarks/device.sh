#!/usr/bin/env bash
# Measure what needs a GPU: one script for a machine with an NVIDIA GPU, its own CUDA build of torch and no network.
#
#   WHEELS=wheels OUT=results bash benchmarks/device.sh         under 8 minutes; results as text in OUT, and printed
#   DEVICE=cpu bash benchmarks/device.sh                        every command line of it, small, on the processor
#   PARTS="solver kernels" bash benchmarks/device.sh            some of: training renewal solver kernels slide
#
# WHEELS is a folder with what that machine's image lacks beside torch, NumPy, SciPy, scikit-image, numba, Matplotlib and
# pytest's usual company. Make it where there is a network, for the Python of that machine (3.12 here), one version each:
#
#   python3 -m pip download --no-deps --only-binary=:all: --dest wheels --implementation cp --python-version 3.12 \
#       --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
#       array-api-compat defusedxml filelock fire imagecodecs jsonschema jsonschema-specifications monai nibabel \
#       openslide-bin openslide-python pytorch-ignite referencing rpds-py shapely termcolor
#
# PYTHON is the interpreter that has torch (python3). The clone's own code is used as it lies here. Each part has its own
# time limit, and one that fails or takes too long is said and does not stop the rest; the exit status is then 1.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
DEVICE=${DEVICE:-cuda}
PYTHON=${PYTHON:-python3}
WHEELS=${WHEELS:-}
OUT=${OUT:-build/device}
PARTS=${PARTS:-training renewal solver kernels slide}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$PWD OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TMPDIR=$work
export MLFLOW_DISABLE_TELEMETRY=true PYTHONWARNINGS=ignore

# An environment that sees the packages of PYTHON, also where PYTHON belongs to an environment itself.
make_environment() {
    "$PYTHON" -m venv --system-site-packages --without-pip "$work/venv" || return
    local own
    own=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') || return
    "$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$own/image.pth" || return
    if [[ -n $WHEELS ]]; then
        "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
            --no-cache-dir --ignore-installed "$WHEELS"/*.whl || return
    fi
    "$work/venv/bin/python" - "$DEVICE" <<'END'
import sys

import ignite, monai, torch

import cvm_monai

device = sys.argv[1]
name = torch.cuda.get_device_name() if device == "cuda" else "processor"
print(f"{name}; torch {torch.__version__}, MONAI {monai.__version__}, Ignite {ignite.__version__}, cvm_monai {cvm_monai.__version__}")
END
}

failed=()
# part NAME SECONDS SCRIPT OPTION...: run a benchmark, its output on the screen and in OUT/NAME.txt.
part() {
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    echo
    echo "== $name: benchmarks/$*"
    timeout --kill-after=10 "$limit" "$work/venv/bin/python" benchmarks/"$1" "${@:2}" > "$OUT/$name.txt" 2> "$OUT/$name.err"
    status=$?
    cat "$OUT/$name.txt"
    if ((status == 0)); then
        echo "-- $name: $((SECONDS - start)) s"
        rm -f "$OUT/$name.err"
        return
    fi
    failed+=("$name")
    tail -n 5 "$OUT/$name.err"
    ((status == 124 || status == 137)) && echo "-- $name: stopped after its limit of $limit s" || echo "-- $name: failed, $status"
}

training() {
    if [[ $DEVICE == cpu ]]; then
        part training 240 training.py --device cpu --network unet --cases 12 --size 64 --crop_size 64 --workers 0 2 --rounds 1
        return
    fi
    part training 100 training.py --device "$DEVICE" --cases 64 --size 512 --crop_size 256 --batch_size 8 --amp \
        --workers 0 8 --rounds 3
}

renewal() {
    if [[ $DEVICE == cpu ]]; then
        part renewal 120 renewal.py --cases 12 --size 64 --network unet --channels 8 8 8 8 8 --rounds 1
        part renewal_aos 120 renewal.py --cases 12 --size 64 --network unet --channels 8 8 8 8 8 --rounds 1 \
            --combination mean --solver aos
        return
    fi
    part renewal 60 renewal.py --device "$DEVICE" --cases 348 --size 256
    part renewal_aos 60 renewal.py --device "$DEVICE" --cases 348 --size 256 --combination mean --solver aos
}

solver() {
    if [[ $DEVICE == cpu ]]; then
        part solver 120 solver.py --device cpu-torch
        return
    fi
    part solver 50 solver.py --device "$DEVICE"
}

kernels() {
    if [[ $DEVICE == cpu ]]; then
        part kernels 240 kernels.py --maps 2 --size 16 --lines 8
        return
    fi
    part kernels 90 kernels.py --device "$DEVICE" --maps 348 --size 256
}

slide() {
    if [[ $DEVICE == cpu ]]; then
        part slide 120 whole_slide.py --sizes --tiles 2 --side 1200 --window 256 --workers 8 --batch_size 2
        return
    fi
    part slide 70 whole_slide.py --sizes --tiles 144 --device "$DEVICE" --amp --workers 8 --batch_size 8
}

make_environment 2>&1 | tee "$OUT/environment.txt"
if ((PIPESTATUS[0])); then
    echo "no environment: WHEELS must hold what the image lacks (see the head of this script)" >&2
    exit 1
fi
for name in $PARTS; do
    case $name in
        training | renewal | solver | kernels | slide) "$name" ;;
        *) echo "no part $name: training renewal solver kernels slide" >&2 && failed+=("$name") ;;
    esac
done
echo
if ((${#failed[@]})); then
    echo "failed: ${failed[*]}; the others lie in $OUT"
    exit 1
fi
echo "all parts done in $SECONDS s; results in $OUT"

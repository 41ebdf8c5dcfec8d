#!/usr/bin/env bash
# Builds FusionKit on a machine with an NVIDIA GPU, checks every GPU kernel and measures it.
#
#   bash benches/gpu_check.sh [--quick] [--seconds N] [--device cpu --dry] [FOLDER]
#
# Results go to FOLDER, else to $OUT, else to benches/results/DEVICE: results.json, table.md, plots,
# tests.xml and log.txt. Everything else is done in a temporary copy. No phase stops the others; the
# exit code is 1 if one failed. Without a GPU it says so and exits 0. PYTHON names the interpreter.
# --dry runs tiny shapes on the CPU with what is installed, to try the script itself.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
scope=full device=cuda total=530 folder=${OUT:-}
while [ $# -gt 0 ]; do
    case $1 in
        --quick) scope=quick total=300 ;;
        --dry) scope=dry ;;
        --device) device=$2; shift ;;
        --seconds) total=$2; shift ;;
        -*) echo "gpu_check: unknown option $1; see the head of $0" >&2; exit 2 ;;
        *) folder=$1 ;;
    esac
    shift
done
if [ "$device" = cpu ] && [ "$scope" != dry ]; then
    echo "gpu_check: --device cpu is for --dry only" >&2
    exit 2
fi

about_device='
try:
    import torch
except ImportError:
    print("torch is not installed")
else:
    if torch.cuda.is_available():
        print("ok", *torch.cuda.get_device_capability(), torch.cuda.get_device_name(), sep="\t")
    else:
        print(f"torch {torch.__version__} sees no CUDA device")'
if [ "$device" = cpu ]; then
    capability= name=cpu-dry
else
    found=$("$python" -c "$about_device" 2>&1 | tail -n 1)
    if [ "${found%%$'\t'*}" != ok ]; then
        echo "gpu_check: skipped, no NVIDIA GPU can be used here: $found"
        exit 0
    fi
    IFS=$'\t' read -r _ major minor name <<<"$found"
    capability=$major$minor
fi
folder=${folder:-$root/benches/results/$(tr 'A-Z ' 'a-z-' <<<"$name" | tr -cd 'a-z0-9-')}
mkdir -p "$folder" && folder=$(cd "$folder" && pwd) || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
parts=$work/parts tree=$work/tree logs=$work/logs
mkdir -p "$parts" "$tree" "$logs" "$work/site"

left() { echo $((total - SECONDS)); }

# at_most LIMIT RESERVED: LIMIT, or what is left but for the RESERVED seconds, and at least 20.
at_most() {
    local most=$(($(left) - $2))
    most=$((most < $1 ? most : $1))
    echo $((most > 20 ? most : 20))
}

# phase NAME LIMIT COMMAND...: run it for at most LIMIT seconds, and keep its output and its time.
phase() {
    local name=$1 limit=$2 start=$SECONDS code
    shift 2
    timeout --signal=INT --kill-after=10 "$limit" "$@" >"$logs/$name.log" 2>&1
    code=$?
    printf '%s\t%s\t%s\t%s\n' "$name" "$code" $((SECONDS - start)) "$limit" >>"$parts/phases.tsv"
    echo "== $name: exit code $code, $((SECONDS - start)) s (of at most $limit)"
    [ "$code" = 0 ] || tail -n 12 "$logs/$name.log" | cut -c 1-300
}

prepare() {
    if [ "$scope" = dry ]; then
        ln -s "$root/benches" "$root/tests" "$root/pyproject.toml" "$tree"
        (cd / && "$python" -c 'import fusionkit' 2>/dev/null) || ln -s "$root/fusionkit" "$tree"
    else
        tar -C "$root" --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./.whl \
            --exclude='*.so' --exclude=./benches/results -cf - . | tar -C "$tree" -xf -
        ln -sfn plugins "$tree/fusionkit_plugins"
        # The methods are found through the entry points of a distribution.
        (cd "$tree" && FUSIONKIT_BUILD_CPU=0 FUSIONKIT_BUILD_CUDA=0 "$python" setup.py -q egg_info) \
            >"$logs/egg_info.log" 2>&1 || echo "no entry points: see egg_info in log.txt"
    fi
    if ls "$root"/.whl/*.whl >/dev/null 2>&1; then
        "$python" -m pip install -q --no-index --no-deps --no-compile --target "$work/site" \
            "$root"/.whl/*.whl || echo "some wheels of .whl could not be installed"
    fi
}

build() {
    cd "$tree" || return 1
    export FUSIONKIT_BUILD_CPU=1 FUSIONKIT_CUDA_ARCHITECTURES=$capability MAX_JOBS=$(nproc)
    FUSIONKIT_BUILD_CUDA=1 "$python" setup.py build_ext --inplace && return 0
    echo "the build with CUDA failed; again without, so that the rest has the CPU's kernels"
    FUSIONKIT_BUILD_CUDA=0 "$python" setup.py build_ext --inplace
    return 1
}

kernel_tests() {
    cd "$tree" || return 1
    local files options=() plugin
    if [ "$scope" = dry ]; then
        files=(tests/ops/test_gpu_graph_capture.py tests/ops/test_gpu_determinism.py)
        options=(-k "dropout or capture")
    else
        shopt -s nullglob
        files=(tests/ops/test_gpu_*.py tests/ops/test_*_cuda*.py tests/ops/test_*_triton*.py)
        "$python" -c 'import xdist' 2>/dev/null && options+=(-n 10)
        "$python" -c 'import pytest_timeout' 2>/dev/null && options+=(--timeout 100)
    fi
    FUSIONKIT_FUZZ_CASES_EACH=500 exec "$python" -m pytest -q -p no:cacheprovider \
        "${options[@]}" --junitxml "$parts/tests.xml" "${files[@]}"
}

sanitizer() {
    cd "$tree" || return 1
    if ! command -v compute-sanitizer >/dev/null; then
        echo "skipped: compute-sanitizer is not there"
        return 0
    fi
    # Without torch's cache every tensor ends where its memory ends.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 exec compute-sanitizer --tool "$1" --error-exitcode 9 \
        "$python" -m benches.gpu.smoke
}

main() {
    echo "gpu_check: $name, $scope, results in $folder"
    prepare
    local site=$work/site before=${PYTHONPATH:-}
    export PYTHONPATH=$tree:$tree/tests/support:$site${before:+:$before}
    export TRITON_CACHE_DIR=$work/triton TORCHINDUCTOR_CACHE_DIR=$work/inductor
    export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
    export root python scope device capability tree parts work
    export -f build kernel_tests sanitizer
    local facts=(--device "$device" --file "$parts/facts.json")
    local run=("$python" -m benches.gpu.run --device "$device" --scope "$scope" --parts "$parts")
    cd "$tree" || return 1

    if [ "$scope" = dry ]; then
        export OMP_NUM_THREADS=1
        phase facts 60 "$python" -m benches.gpu.facts "${facts[@]}" --dry
        phase tests 100 bash -c kernel_tests
        phase smoke 60 "$python" -m benches.gpu.smoke
        phase benchmarks 250 "${run[@]}" --seconds 200
    else
        phase build "$(at_most 170 200)" bash -c build &
        phase facts 60 "$python" -m benches.gpu.facts "${facts[@]}"
        wait
        # Nothing is timed while these run, so they may run at once.
        local limit=$(at_most 130 100)
        phase memcheck "$limit" bash -c "sanitizer memcheck" &
        phase racecheck "$limit" bash -c "sanitizer racecheck" &
        phase compilers "$limit" "${run[@]}" --warm --seconds $((limit - 25)) &
        phase tests "$limit" bash -c kernel_tests
        wait
        phase benchmarks "$(at_most 600 12)" "${run[@]}" --seconds "$(at_most 600 38)"
    fi
    [ -f "$parts/tests.xml" ] && cp "$parts/tests.xml" "$folder"
    "$python" -m benches.gpu.report --parts "$parts" --folder "$folder" --scope "$scope" ||
        echo "the report could not be written: see log.txt"
    echo "== $SECONDS s in all; files: $(ls "$folder" | tr '\n' ' ')"
    ! cut -f 2 "$parts/phases.tsv" | grep -qv '^0$'
}

main 2>&1 | tee "$work/printed.log"
code=${PIPESTATUS[0]}
# The log has what was printed, then each phase in full.
{
    cat "$work/printed.log"
    for file in "$logs"/*.log; do
        printf '\n==== %s\n' "$(basename "$file" .log)"
        tail -c 1500000 "$file"
    done
} >"$folder/log.txt"
exit "$code"

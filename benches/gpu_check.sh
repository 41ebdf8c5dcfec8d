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
# Interrupted, it has 25 seconds more to write down what it has.
phase() {
    local name=$1 limit=$2 start=$SECONDS code note
    shift 2
    timeout --signal=INT --kill-after=25 "$limit" "$@" >"$logs/$name.log" 2>&1
    code=$?
    note=$(grep -hm 1 -E '^(skipped|left out)' "$logs/$name.log" | tr '\t' ' ' | cut -c 1-200)
    printf '%s\t%s\t%s\t%s\t%s\n' "$name" "$code" $((SECONDS - start)) "$limit" "$note" \
        >>"$parts/phases.tsv"
    echo "== $name: exit code $code, $((SECONDS - start)) s (of at most $limit)${note:+; $note}"
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
    local files options=() workers=$(($(nproc) * 3 / 4))
    workers=$((workers > 12 ? 12 : workers < 1 ? 1 : workers))
    if [ "$scope" = dry ]; then
        files=(tests/ops/test_gpu_graph_capture.py tests/ops/test_gpu_determinism.py)
        options=(-k "dropout or capture")
    else
        shopt -s nullglob
        files=(tests/ops/test_gpu_*.py tests/ops/test_*_cuda*.py tests/ops/test_*_triton*.py
            tests/ops/test_length_aware_lstm_streams.py tests/nn/test_recurrent_flat.py)
        "$python" -m benches.gpu.needs training &&
            files+=(tests/training/test_cuda_graph_capture.py)
        if "$python" -c 'import xdist' 2>/dev/null; then
            # One by one: those that compile for long stand next to each other.
            options+=(-n "$workers" --maxschedchunk 1)
            # A process that hangs in the driver is past any exception, and has a successor.
            "$python" -c 'import pytest_timeout' 2>/dev/null &&
                options+=(--timeout $(($1 * 2 / 3)) --timeout-method thread)
        fi
    fi
    # With -v the log has every result, whatever becomes of the summary.
    FUSIONKIT_FUZZ_CASES_EACH=500 exec "$python" -m pytest -v -p no:cacheprovider \
        "${options[@]}" --junitxml "$parts/tests.xml" "${files[@]}"
}

# sanitizer TOOL LIMIT: fails for what it finds, and where a call fails; where the tool itself does
# not work it is skipped. The last call starts 30 seconds before the LIMIT.
sanitizer() {
    cd "$tree" || return 1
    local tool=$1 start=$SECONDS help options=() filter=() part code
    local checked=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 9)
    if ! command -v compute-sanitizer >/dev/null; then
        echo "skipped: compute-sanitizer is not there"
        return 0
    fi
    help=$(compute-sanitizer --help 2>&1)
    # Libraries ask for what a device may not have, and take the error for an answer.
    grep -q -e --report-api-errors <<<"$help" && options+=(--report-api-errors no)
    if grep -q -e --kernel-regex <<<"$help"; then
        # Our namespace in CUDA, and what our Triton kernels are called.
        for part in fusionkit attention_ gated_mask_ info_nce_ segment_; do
            filter+=(--kernel-regex "kns=$part")
        done
    fi
    timeout --foreground 60 "${checked[@]}" --tool memcheck "${options[@]}" "${filter[@]}" \
        "$python" -m benches.gpu.planted >"$logs/$tool-planted.log" 2>&1
    if grep -qi 'device not supported' "$logs/$tool-planted.log"; then
        echo "skipped: compute-sanitizer does not support this device here"
        return 0
    fi
    if ! grep -q 'Invalid __global__ write' "$logs/$tool-planted.log"; then
        echo "skipped: the choice of our kernels, with which a planted error was not found"
        filter=()
    fi
    # Without torch's cache every tensor ends where its memory ends.
    "${checked[@]}" --tool "$tool" "${options[@]}" "${filter[@]}" \
        "$python" -m benches.gpu.smoke --seconds $(($2 - 30 - SECONDS + start))
    code=$?
    if [ "$code" = 0 ] || grep -qE ': FAILED: |SUMMARY: [1-9]' "$logs/$tool.log"; then
        return "$code"
    fi
    echo "skipped: compute-sanitizer ended with code $code and found nothing"
}

main() {
    echo "gpu_check: $name, $scope, results in $folder"
    prepare
    local site=$work/site before=${PYTHONPATH:-}
    export PYTHONPATH=$tree:$tree/tests/support:$site${before:+:$before}
    export TRITON_CACHE_DIR=$work/triton TORCHINDUCTOR_CACHE_DIR=$work/inductor
    # A process that compiles starts no others: there are enough, and idle ones disturb the clock.
    export TORCHINDUCTOR_COMPILE_THREADS=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
    export root python scope device capability tree parts work logs
    export -f build kernel_tests sanitizer
    local facts=(--device "$device" --file "$parts/facts.json")
    local run=("$python" -m benches.gpu.run --device "$device" --scope "$scope" --parts "$parts")
    cd "$tree" || return 1
    "$python" -m benches.gpu.needs training models

    if [ "$scope" = dry ]; then
        export OMP_NUM_THREADS=1
        phase facts 60 "$python" -m benches.gpu.facts "${facts[@]}" --dry
        phase tests 100 bash -c "kernel_tests 100"
        phase smoke 60 "$python" -m benches.gpu.smoke
        phase benchmarks 250 "${run[@]}" --seconds 200
    else
        # The benchmarks have 43 % of the time however long the build and the tests take.
        local reserved=$((total * 43 / 100)) limit short
        phase build "$(at_most 170 $((reserved + 40)))" bash -c build &
        phase facts 60 "$python" -m benches.gpu.facts "${facts[@]}"
        wait
        # Nothing is timed while these run, so they may run at once.
        limit=$(at_most 170 "$reserved")
        short=$((limit < 120 ? limit : 120))
        phase memcheck "$short" bash -c "sanitizer memcheck $short" &
        phase racecheck "$short" bash -c "sanitizer racecheck $short" &
        TORCHINDUCTOR_COMPILE_THREADS=4 \
            phase compilers "$limit" nice -n 5 "${run[@]}" --warm --seconds $((limit - 25)) &
        phase tests "$limit" bash -c "kernel_tests $limit"
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

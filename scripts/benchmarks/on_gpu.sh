#!/usr/bin/env bash
# Measures what only a GPU can show, on a machine with CUDA and torch and, it may be, no package index.
#
#   scripts/benchmarks/on_gpu.sh DATA OUTPUT [SECTION ...]
#
# DATA: a data set that `ntalker process` wrote. OUTPUT: folder for logs and figures; every section writes its own as
# soon as it has them, and one that fails does not stop the next. Sections, by default all, in order of value:
#   tests   the Triton kernels against their references, recorded steps
#   base    ntalker-base to the end of its schedule: held-out PSNR over time; time of a step, recorded and not
#   splat   ntalker-splat likewise; and made-up heads of Gaussians, a picture as one CUDA graph among them
#   frames  frames a second of both heads, beside nerfacto with its own chunks
#   ip2p    the paper's editor at its full size with random weights
#   edit    a whole edit of the head that base trained, part by part
#
# WHEELS=DIR installs these wheels (wheels.txt beside this) into a temporary folder first, where packages are missing.
# REHEARSAL=1 takes tiny sizes, so that a CPU runs every section in minutes; its figures say nothing.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ $# -lt 2 ]; then
    echo "Usage: scripts/benchmarks/on_gpu.sh DATA OUTPUT [SECTION ...]" >&2
    exit 2
fi
data=$1 output=$2
shift 2
sections=("$@")
[ ${#sections[@]} -gt 0 ] || sections=(tests base splat frames ip2p edit)
python=${PYTHON:-python3}
mkdir -p "$output"

if ! $python -c 'import nerfstudio' 2>/dev/null; then
    if [ -z "${WHEELS:-}" ]; then
        echo "Error: nerfstudio is missing: run scripts/setup.sh, or name a folder of wheels with WHEELS=DIR" >&2
        exit 1
    fi
    site=$(mktemp -d)
    $python -m pip install -q --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl || exit 1
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
run="$python -m scripts.benchmarks.run"
kept=$(mktemp -d)

if [ -n "${REHEARSAL:-}" ]; then
    short=(--max-num-iterations 4 --curve.points 2 --curve.frames 2 --curve.pixels 50)
    base=(--method ntalker-base-small "${short[@]}" --step.rays 64 --step.steps 2 --step.peer-steps 1)
    splat=(--method ntalker-splat-small "${short[@]}" --gaussians.counts 100 --gaussians.pictures 32)
    frames=(--frames.sizes 16 24 --frames.frames 2 --frames.peer-rays 16)
    ip2p=(--editor.batches 1 --editor.side 64 --editor.steps 2 --editor.repeats 1 --editor.width-fraction 0.1)
    edit=(--edit.method ntalker-edit-small --edit.num-frames 4 --edit.schedules 6 5 --edit.scored-frames 2
        --edit.options edit.patch_size=16 edit.lip_patch_size=16)
else
    base=(--method ntalker-base --step.rays 65536)
    splat=(--method ntalker-splat)
    frames=(--frames.sizes 256 512 1024)
    ip2p=()
    edit=()
fi

section() {
    case $1 in
        tests) $python -m pytest -q -p no:cacheprovider tests/kernels/triton tests/training/test_recorded_steps.py ;;
        base) $run --sections curve step --data "$data" --keep "$kept" --curve.seconds None "${base[@]}" \
            --json "$output/base.json" ;;
        splat) $run --sections curve gaussians --data "$data" --keep "$kept" --curve.seconds None "${splat[@]}" \
            --json "$output/splat.json" ;;
        frames)
            $run --sections frames --load-config "$(trained base)" "${frames[@]}" --json "$output/frames.json" &&
                $run --sections frames --load-config "$(trained splat)" "${frames[@]}" \
                    --json "$output/splat_frames.json"
            ;;
        ip2p) $run --sections editor "${ip2p[@]}" --json "$output/ip2p.json" ;;
        edit) $run --sections edit --load-config "$(trained base)" "${edit[@]}" --json "$output/edit.json" ;;
        *)
            echo "Error: there is no section $1" >&2
            return 2
            ;;
    esac
}

# The run of the section base or splat.
trained() {
    find "$kept" -path "*/ntalker-$1*/*" -name config.yml | head -n 1
}

failed=()
for name in "${sections[@]}"; do
    start=$SECONDS
    section "$name" > "$output/$name.log" 2>&1 || failed+=("$name")
    echo "$name: $((SECONDS - start)) s"
    tail -n 40 "$output/$name.log"
done
rm -rf "$kept" "${site:-}"
if [ ${#failed[@]} -gt 0 ]; then
    echo "Error: failed: ${failed[*]}; see the logs in $output" >&2
    exit 1
fi

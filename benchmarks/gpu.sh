#!/usr/bin/env bash
# Check and time what needs a GPU, without a network and in under six minutes:
#
#     bash benchmarks/gpu.sh [FOLDER]       # default: benchmarks/results/gpu
#
# FOLDER gets each part's output and JSON, and gpu.md, the whole as one page. PYTHON=... is the interpreter; it needs
# this project and pytest. DEVICE=cpu tries out the script where there is no GPU. A part that fails stops no other, but
# the script then fails. What matters most comes first, because a part gets only the time that is left.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
folder=$(realpath --canonicalize-missing "${1:-benchmarks/results/gpu}")
mkdir -p "$folder"
: > "$folder/gpu.md"
failed=0
limit=${LIMIT:-350} # seconds for all parts

part() { # part NAME COMMAND...: run a part, and add its output to the page
    local name=$1 start=$SECONDS left=$((limit - SECONDS))
    shift
    if [ $left -le 0 ]; then
        printf '## %s: not run, because the %s s are used up\n\n' "$name" "$limit" >> "$folder/gpu.md"
        failed=1
        return
    fi
    timeout "$left" "$@" > "$folder/$name.txt" 2> "$folder/$name.log"
    local code=$? # 124: stopped, because the time was used up
    { echo "## $name: exit code $code, $((SECONDS - start)) s"; echo; cat "$folder/$name.txt"; echo; } >> "$folder/gpu.md"
    if [ $code -ne 0 ]; then
        failed=1
        tail -n 20 "$folder/$name.log" >> "$folder/gpu.md"
    fi
}

accelerator=$([ "$device" = cuda ] && echo gpu || echo cpu)
contenders=plain,usual,vaelab-scan,vaelab-stacked,products
[ "$device" = cuda ] && contenders=$contenders,vaelab-graph,vaelab-compile-graph
steps=(benchmarks/run.py --device "$device" --rounds 3 --seconds 0.3 --only "$contenders")
examples=$([ "$device" = cuda ] && echo 10000 || echo 100)
data=$([ -d "${VAELAB_DATA_DIR:-data}/mnist" ] && echo mnist || echo mnist5k)
train=("$python" -m vaelab.train "data=$data" trainer.max_epochs=20 accelerator="$accelerator" logger=none rerun=true)

part tests "$python" -m pytest -q -p no:warnings -m gpu tests/training/test_cuda_graph.py
part large "$python" "${steps[@]}" --network 500-20 --out "$folder/large"
part iwae "$python" benchmarks/iwae.py --device "$device" --out "$folder/iwae"
part training "${train[@]}" hydra.run.dir="$folder/run"
part compiled "${train[@]}" compile=true hydra.run.dir="$folder/compiled_run"
part evaluation "$python" benchmarks/evaluation.py --device "$device" --examples "$examples" --out "$folder/evaluation"
part small "$python" "${steps[@]}" --network 200-50 --out "$folder/small"
cat "$folder/gpu.md"
exit $failed

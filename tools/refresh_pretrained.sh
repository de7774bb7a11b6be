#!/usr/bin/env bash
# Puts the model of a training run into the package, scores it and writes the scores into its card:
#
#   bash tools/refresh_pretrained.sh RUN_FOLDER HOURS DAVIS2016 OUTPUT
#
#   RUN_FOLDER  folder of the last stage, with its checkpoints
#   HOURS       how long all stages were trained
#   DAVIS2016   the data set; its validation sequences are segmented at 480p
#   OUTPUT      folder for masks, scores and report
set -euo pipefail
[ $# = 4 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 1; }
RUN=$(realpath "$1") HOURS=$2 DAVIS=$(realpath "$3") OUT=$(realpath -m "$4")
cd "$(dirname "$0")/.."
source tools/setup_environment.sh
set_up_environment '' .venv $NEWEST_PAIR $OLDER_PAIR

"$PYTHON" tools/pack_pretrained.py --model_dir="$RUN" --hours="$HOURS"
"$PYTHON" -m feelvos_tf.predict --dataset=davis_2016 --dataset_root="$DAVIS" --split=val \
  --output_dir="$OUT" --overlays="$OUT/overlays"
"$PYTHON" tools/eval_davis.py --dataset=davis_2016 --dataset_root="$DAVIS" --split=val \
  --predictions="$OUT" --report="$OUT/report.html"
"$PYTHON" tools/pack_pretrained.py --scores="$OUT/per-sequence_results-val.csv"

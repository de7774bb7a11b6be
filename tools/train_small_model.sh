#!/usr/bin/env bash
# Trains the small model in stages, from data to SavedModel (gin_configs/train/small_model_*.gin):
#
#   FEELVOS_STILLS=... FEELVOS_DAVIS=... FEELVOS_START=... FEELVOS_RUN=... \
#       nohup nice -n 19 setsid bash tools/train_small_model.sh > small_model.log 2>&1 &
#
# It can be killed and restarted at any time: it resumes from its last checkpoint. A finished stage leaves
# a file <stage>.done and is skipped. To end a stage early, kill, create that file, and restart.
#
#   FEELVOS_STILLS   folder with images/ and masks/ of the same names (feelvos_tf/data/own_folders.py)
#   FEELVOS_DAVIS    DAVIS 2016 in its own layout, at 480p
#   FEELVOS_START    checkpoint of DeepLab's MobileNetV2, .../deeplab_mnv2_dm1.0_pascal/model.ckpt; or
#                    "bundled": only the last stage, starting from the bundled model
#   FEELVOS_RUN      where records, checkpoints and the SavedModel go
set -euo pipefail
: "${FEELVOS_STILLS:?folder of stills}" "${FEELVOS_DAVIS:?folder of DAVIS 2016}"
: "${FEELVOS_START:?DeepLab checkpoint, or bundled}" "${FEELVOS_RUN:?folder of the run}"
cd "$(dirname "$0")/.."
source tools/setup_environment.sh

# Held out for validation: a dancer among spectators, a small fast dog behind poles, a car that drifts
# and comes closer, a horse with thin legs and its rider.
HELD_OUT=breakdance-flare,dog-agility,drift-turn,horsejump-low
STAGES=(small_model_1_frozen small_model_2_rollout small_model_3_frames)
if [ "$FEELVOS_START" = bundled ]; then
  FEELVOS_START=feelvos_tf/pretrained/weights.npz
  STAGES=(small_model_3_frames)
fi

make_records() {  # make_records NAME FLAG...
  local folder=$FEELVOS_RUN/records/$1
  shift
  if compgen -G "$folder/train-*.tfrecord" > /dev/null; then
    echo "$folder already exists"
  else
    "$PYTHON" tools/build_tfrecords.py "$@" --output_dir="$folder"
  fi
}

last_checkpoint() {  # last_checkpoint FOLDER
  sed -n 's/^model_checkpoint_path: "\(.*\)"/\1/p' "$1/checkpoint"
}

# The older pair is preferred: the times in gin_configs/train/LOG.md were measured with TensorFlow 2.15.
set_up_environment '' .venv $OLDER_PAIR $NEWEST_PAIR
mkdir -p "$FEELVOS_RUN"
echo "== Records ($(date))"
make_records stills --dataset=stills --dataset_root="$FEELVOS_STILLS"
make_records davis_2016 --dataset=davis_2016 --dataset_root="$FEELVOS_DAVIS" --split=train \
  --except_sequences="$HELD_OUT"

start=$FEELVOS_START
for stage in "${STAGES[@]}"; do
  folder=$FEELVOS_RUN/$stage
  if [ ! -f "$folder.done" ]; then
    echo "== $stage ($(date))"
    "$PYTHON" -m feelvos_tf.train --gin_file="gin_configs/train/$stage.gin" \
      --gin_param="stills_records = '$FEELVOS_RUN/records/stills/train-*.tfrecord'" \
      --gin_param="davis_2016_records = '$FEELVOS_RUN/records/davis_2016/train-*.tfrecord'" \
      --gin_param="InitialWeights.checkpoint = '$start'" \
      --gin_param="Validation.dataset_root = '$FEELVOS_DAVIS'" \
      --model_dir="$folder"
    touch "$folder.done"
  fi
  start=$folder/$(last_checkpoint "$folder")
done

echo "== SavedModel ($(date))"
rm -rf "$FEELVOS_RUN/saved_model"
"$PYTHON" -m feelvos_tf.export --model_dir="$folder" --export_dir="$FEELVOS_RUN/saved_model"

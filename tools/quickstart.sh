#!/usr/bin/env bash
# From a fresh machine to masks:
#
#   bash tools/quickstart.sh            installs into .venv; masks of the clips in testdata/, with scores
#   bash tools/quickstart.sh --train    also trains, exports and scores a model, on a tiny data set
#
# Both fill quickstart_output/. A second run resumes where the first one stopped, without repeating what
# is done.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/setup_environment.sh

case "${1:-}" in
  "") TRAIN=false ;;
  --train) TRAIN=true ;;
  *) fail "$1: expected --train or nothing" ;;
esac
OUT=quickstart_output
SHARDS=2
STARTED=$SECONDS

step() {
  echo
  echo "== $* ($((SECONDS - STARTED)) s since the start)"
}

has_records() {
  [ "$(find "$OUT/records" -name "train-*-of-0000$SHARDS.tfrecord" 2> /dev/null | wc -l)" = "$SHARDS" ]
}

# A SavedModel older than the checkpoint is from another training run.
has_current_saved_model() {
  [ -f "$OUT/saved_model/saved_model.pb" ] \
    && [ ! "$OUT/model/checkpoint" -nt "$OUT/saved_model/saved_model.pb" ]
}

# Scores older than a mask belong to other masks.
has_current_scores() {
  [ -f "$OUT/report.html" ] && [ -f "$OUT/masks/global_results-val.csv" ] \
    && [ -z "$(find "$OUT/masks" testdata/Annotations -newer "$OUT/report.html" -print -quit)" ]
}

set_up_environment '' .venv $NEWEST_PAIR $OLDER_PAIR
mkdir -p "$OUT"

step "Masks of a clip, with the bundled model"
"$PYTHON" -m feelvos_tf.predict --video=testdata/bunny.mp4 --mask=testdata/bunny.png --fast \
  --output_dir="$OUT/bundled_model/bunny" --overlay="$OUT/bundled_model/bunny.mp4"
echo "Look at $OUT/bundled_model/bunny.mp4"

step "Three drawn videos, and their scores: J and F as DAVIS defines them"
"$PYTHON" -m feelvos_tf.predict --dataset_root=testdata --year=2017 --split=val --fast \
  --output_dir="$OUT/bundled_model/masks" --overlays="$OUT/bundled_model/overlays"
"$PYTHON" tools/eval_davis.py --dataset_root=testdata --predictions="$OUT/bundled_model/masks" \
  --year=2017 --split=val

if [ "$TRAIN" = false ]; then
  cat << END

Done in $(((SECONDS - STARTED) / 60)) min $(((SECONDS - STARTED) % 60)) s. Look at
  $OUT/bundled_model/bunny.mp4  the clip with its masks
  $OUT/bundled_model/overlays/  the drawn videos with theirs, a video and a picture each

Your own video: draw the objects of its first frame into a PNG (0 is background, one value per
object), then
  $PYTHON -m feelvos_tf.predict --video=my_video.mp4 --mask=my_first_mask.png \\
    --output_dir=my_masks --overlay=my_overlay.mp4
This runs the bundled model with its default settings; --fast is several times as fast.
feelvos_tf/pretrained/MODEL_CARD.md documents what it was trained on and where it fails.

To train a model as well (records, training, SavedModel, masks, scores), in some minutes:
  bash tools/quickstart.sh --train
END
  exit
fi

step "1/5 Records: one TFRecord per training video"
if has_records; then
  echo "$OUT/records is already complete"
else
  "$PYTHON" tools/build_tfrecords.py --dataset=davis_2017 --dataset_root=testdata --split=train \
    --num_shards="$SHARDS" --output_dir="$OUT/records"
fi

step "2/5 Training: a small network from random weights, for some minutes"
"$PYTHON" -m feelvos_tf.train --gin_file=gin_configs/quickstart.gin \
  --gin_param="training_dataset.records = '$OUT/records/train-*.tfrecord'" --model_dir="$OUT/model"

step "3/5 SavedModel: the trained network as one folder that needs only TensorFlow"
if has_current_saved_model; then
  echo "$OUT/saved_model is already up to date"
else
  rm -rf "$OUT/saved_model"
  "$PYTHON" -m feelvos_tf.export --model_dir="$OUT/model" --export_dir="$OUT/saved_model"
fi

step "4/5 Masks: each validation video from its first mask, with the network trained here"
"$PYTHON" -m feelvos_tf.predict --saved_model="$OUT/saved_model" --dataset_root=testdata \
  --year=2017 --split=val --output_dir="$OUT/masks" --overlays="$OUT/overlays"

step "5/5 Score"
if has_current_scores; then
  echo "$OUT/report.html is already up to date"
  cat "$OUT/masks/global_results-val.csv"
else
  "$PYTHON" tools/eval_davis.py --dataset_root=testdata --predictions="$OUT/masks" --year=2017 \
    --split=val --report="$OUT/report.html"
fi

cat << END

Done in $(((SECONDS - STARTED) / 60)) min $(((SECONDS - STARTED) % 60)) s:
  $OUT/overlays/     the videos with the masks of the network trained just now
  $OUT/report.html   its scores as curves, with the best and the worst frames
  $OUT/masks/        its masks, and its scores in two CSV files
  $OUT/saved_model/  the network itself, which any TensorFlow can run
  $OUT/model/        checkpoints, settings, TensorBoard files

It has seen six drawn videos for two minutes and is not fit for your own videos. README.md shows how to
train a larger one; gin_configs/train/README.md lists recipes and their results.
END

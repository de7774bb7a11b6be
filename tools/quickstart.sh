#!/usr/bin/env bash
# The whole path on the bundled data set, from an empty machine to scored masks:
#
#   bash tools/quickstart.sh
#
# makes .venv, installs, and fills quickstart_output/ (records, model, SavedModel, masks, scores,
# overlays). A second run goes on where the first one stopped and repeats nothing that is done.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/setup_environment.sh

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

# A SavedModel older than the checkpoint it should hold is from another training.
has_current_saved_model() {
  [ -f "$OUT/saved_model/saved_model.pb" ] \
    && [ ! "$OUT/model/checkpoint" -nt "$OUT/saved_model/saved_model.pb" ]
}

set_up_environment '' .venv $NEWEST_PAIR $OLDER_PAIR
mkdir -p "$OUT"

step "1/5 Records: one TFRecord per training video"
if has_records; then
  echo "$OUT/records is complete already"
else
  "$PYTHON" tools/build_tfrecords.py --dataset=davis_2017 --dataset_root=testdata --split=train \
    --num_shards="$SHARDS" --output_dir="$OUT/records"
fi

step "2/5 Training: a small network from random weights, some minutes"
"$PYTHON" -m feelvos_tf.train --gin_file=gin_configs/quickstart.gin \
  --gin_param="training_dataset.records = '$OUT/records/train-*.tfrecord'" --model_dir="$OUT/model"

step "3/5 SavedModel: the trained network as one folder that needs no code of ours"
if has_current_saved_model; then
  echo "$OUT/saved_model is up to date already"
else
  rm -rf "$OUT/saved_model"
  "$PYTHON" -m feelvos_tf.export --model_dir="$OUT/model" --export_dir="$OUT/saved_model"
fi

step "4/5 Masks: each validation video from its first mask"
"$PYTHON" -m feelvos_tf.predict --saved_model="$OUT/saved_model" --dataset_root=testdata \
  --year=2017 --split=val --output_dir="$OUT/masks" --overlays="$OUT/overlays"

step "5/5 Score: J and F as DAVIS defines them"
"$PYTHON" tools/eval_davis.py --dataset_root=testdata --predictions="$OUT/masks" --year=2017 \
  --split=val --report="$OUT/report.html"

cat << END

Done in $(((SECONDS - STARTED) / 60)) min $(((SECONDS - STARTED) % 60)) s. What lies where:
  $OUT/overlays/      look here first: a video and a picture per sequence
  $OUT/report.html    the scores as curves, with the best and the worst frames
  $OUT/masks/         the predicted masks, and the scores as two CSV files
  $OUT/saved_model/   the network, for TensorFlow anywhere
  $OUT/model/         checkpoints, settings, TensorBoard files

Your own video: draw the objects of its first frame into a PNG (0 is background, one value per
object), then
  $PYTHON -m feelvos_tf.predict --saved_model=$OUT/saved_model \\
    --video=my_video.mp4 --mask=my_first_mask.png --output_dir=my_masks --overlay=my_overlay.mp4
This network has seen six drawn films for two minutes: it follows drawn objects, mixes them up where
they meet, and is not fit for video of your own yet. README.md names the release's weights and tells
how to train a larger one, gin_configs/train/README.md what was reached.
END

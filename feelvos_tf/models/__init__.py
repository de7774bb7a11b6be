"""The network: paper section 3. Where each sentence of the paper is implemented:

| paper, section 3 | where |
|---|---|
| Figure 1 as a whole | `feelvos_tf.models.feelvos.Feelvos.segment` |
| DeepLabv3+ with its output layer removed, features with a stride of 4 | `feelvos_tf.models.deeplab.Decoder` |
| the Xception-65 architecture | `feelvos_tf.models.backbones.xception.Xception` |
| Atrous Spatial Pyramid Pooling | `feelvos_tf.models.deeplab.AtrousSpatialPyramidPooling` |
| an embedding layer: 3x3 and 1x1 convolution, vectors of dimension 100 | `feelvos_tf.models.embedding.Embedding` |
| equation 1: distance of two pixels, 1 - 2 / (1 + exp(squared distance)) | `feelvos_tf.models.global_matching.normalize_distance` |
| equation 2: nearest neighbor in the first frame | `feelvos_tf.models.global_matching.global_distances` |
| equation 3: the same in the previous frame; 1 where the object is absent | `feelvos_tf.models.global_matching.NO_PIXEL_DISTANCE` |
| equation 4: nearest neighbor in a window of the previous frame, k = 15 | `feelvos_tf.models.local_matching.local_distances` |
| at most 1024 reference pixels per object while training | `feelvos_tf.models.global_matching.prepare_reference` |
| dynamic segmentation head: four layers, 7x7 kernels, 256 channels, logits | `feelvos_tf.models.dynamic_segmentation_head.SegmentationHead` |
| a single forward pass for each video frame; predictions are fed back | `feelvos_tf.inference.predictor.Predictor` |
| softmax over the object dimension | `feelvos_tf.inference.predictor.Predictor` |
| three frames of a video: reference, previous, current | `feelvos_tf.data.paper_clips.draw_frames` |
| the ground truth of the previous frame stands in for its prediction | `feelvos_tf.training.clip_forward.roll_out` |
| flipping, scaling, crops of 465x465 pixels | `feelvos_tf.data.augmentation.augment` |
| cross entropy loss of the 15% hardest pixels | `feelvos_tf.training.losses.BootstrappedCrossEntropy` |
| gradient descent with a momentum of 0.9 | `feelvos_tf.training.optimizers.MomentumOptimizer` |
| learning rate of 0.0007 for 200,000 steps | `feelvos_tf.training.optimizers.LearningRate` |

Defaults are the values above, except where the 2019 release differs: README.md in this folder lists
where. `layers.py` holds the building blocks; `release_checkpoint.py` and `weights.py` load trained
weights.
"""  # noqa: E501

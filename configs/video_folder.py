r"""AR-Net on videos of your own: a folder with `train` and `validation`, in them one folder a class.

    pip install 'ar_net_jax[weights]'
    arnet train --config=video_folder:lite,packaged --workdir=RUN \
        --config.data.source_dir=VIDEOS --config.model.num_classes=CLASSES

`VIDEOS/train/CLASS/*.mp4`, or `VIDEOS/train.csv` with `classes.txt` (see `datasets/video_folder`).
The stages are the paper's, at a batch that fits one GPU and with learning rates to match; videos are
kept at 4 frames a second, `--config.data.frame_rate=0` keeps every frame. Costs are counted as they
are computed (`macs`).

Variants, combined with commas: `lite` takes EfficientNet-Lite2 at 224 px, Lite1 at 168 and Lite0 at
112, a seventh of the ResNets' computation; `resnet` (the default), `efficientnet`. Other methods, after
those: `uniform`, `lstm`, `random_policy`, `multi_scale`, `scsampler`. What is trained, as in
`activitynet`: `resolution_only`, `skipping_only`, `joint_only`, `no_finetune` and the losses.
Last, what it starts from, which a few videos need: `packaged`, ImageNet weights that installed
packages carry (of `lite` alone), or `imagenet`, from the Hugging Face hub or from
`--config.pretrained.folder=DIR`.
"""

from ml_collections import ConfigDict

from ar_net_jax import recipes

VARIANTS = {"lite": recipes.lite, **recipes.PAPER_VARIANTS}

BATCH_SIZE = 16


def get_config(variants: str = "") -> ConfigDict:
    """The config, with comma-separated variants applied in order."""
    config = recipes.base_config("video_folder", 2)
    config.model.gflops_convention = "macs"
    config.data.update(frame_rate=4.0)
    recipes.apply_variants(config, variants, VARIANTS)
    # The learning rates are the paper's, for its batch.
    for stage in config.stages.values():
        stage.learning_rate *= BATCH_SIZE / config.data.batch_size
    config.data.update(batch_size=BATCH_SIZE, eval_batch_size=BATCH_SIZE)
    return config

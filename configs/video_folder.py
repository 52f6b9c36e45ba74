r"""AR-Net on videos of your own: a folder with `train` and `validation`, a folder a class in them.

    pip install 'ar_net_jax[weights]'
    arnet train --config=video_folder:lite,packaged --workdir=RUN \
        --config.data.source_dir=VIDEOS

`VIDEOS/train/CLASS/...`, or `VIDEOS/train.csv` with `classes.txt` (see `datasets/video_folder`);
with class folders alone, `--config.data.validation_share=0.2` sets a fifth of each aside for
validation.
The stages are the paper's. The batch fits the videos and the machine (`data.batch_size=0`): a
power of two for each device, so that an epoch has at least 8 steps and two thirds of the device's
memory hold it, 16 at most. Learning rates are the paper's for its batch of 48, and follow the
square root of the batch (`optimizer.rates_for_batch=48`), also where you give one. Both are told at
the start.
Videos are kept at 4 frames a second; `--config.data.frame_rate=0` keeps every frame. Costs are
counted as they are computed (`macs`).

Variants, combined with commas: `lite` takes EfficientNet-Lite2 at 224 px, Lite1 at 168 and Lite0
at 112, a seventh of the computation of `resnet` (the default); there is `efficientnet` too. Other
methods, after those, each by its name, such as `uniform`. What and how is trained, as in
`activitynet`: `max_mlp`, `resolution_only`, `skipping_only`, `joint_only`, `no_finetune`, the
losses, `released`, `improved`. Last, what it starts from, which a few videos cannot do without:
`packaged`, ImageNet weights that installed packages carry (for `lite`), or `imagenet`, from the
Hugging Face hub or from `--config.pretrained.folder=DIR`.
"""

from ml_collections import ConfigDict

from ar_net_jax import recipes

VARIANTS = {"lite": recipes.lite, **recipes.PAPER_VARIANTS, "packaged": recipes.packaged}

# Validation computes no gradients, so more videos fit.
EVAL_BATCH_SIZE = 16


def get_config(variants: str = "") -> ConfigDict:
    """The config, with comma-separated variants applied in order."""
    config = recipes.base_config("video_folder")
    config.model.gflops_convention = "macs"
    config.data.update(frame_rate=4.0)
    recipes.apply_variants(config, variants, VARIANTS)
    # What variants say of learning rates is for the paper's batch, which the config has so far.
    config.optimizer.rates_for_batch = config.data.batch_size
    config.data.update(batch_size=0, eval_batch_size=EVAL_BATCH_SIZE)
    return config

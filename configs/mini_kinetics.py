r"""AR-Net on Mini-Kinetics, as in Section 4.1 of the paper.

    arnet train --config=mini_kinetics --workdir=RUN \
        --config.data.source_dir=SOURCE --config.data.data_dir=DATA

`SOURCE` holds Kinetics' lists (`train.csv`, `validate.csv`), a `classes.txt` with the 200 classes,
which you write, and the videos, `<id>_<start>_<end>.*`, in any folders below it; or the lists of
the released code and `frames/` (see `datasets/mini_kinetics`). More than 5 % of missing videos are
an error unless `--config.data.max_missing_share` says otherwise. 121,215 training, 9,867 test
videos. The paper reports, trained on 4 GPUs:
71.7 top-1 at 32.0 GFLOPs per video; EfficientNet 74.8 at 16.3.

Variants, combined with commas (`--config=mini_kinetics:efficientnet,uniform`):
`resnet`, `efficientnet`; `uniform`, `lstm`, `random_policy`, `multi_scale` (Table 1), and the other
methods of `ar_net_jax.methods`, each by its name; `max_mlp`, the head of the newer works, after the
method;
`resolution_only`, `skipping_only` (Table 4); `accuracy_only`, `accuracy_efficiency` (Table 5);
`joint_only`, `no_finetune` (Table 6); `paper_loss`, `released_loss`, `released`, `improved` (see
`ar_net_jax.recipes`). The paper starts from ImageNet weights: add `imagenet`, last, which
downloads them, or looks for them in `--config.pretrained.folder=DIR`.
"""

from ml_collections import ConfigDict

from ar_net_jax import recipes

VARIANTS = recipes.PAPER_VARIANTS


def get_config(variants: str = "") -> ConfigDict:
    """The config, with comma-separated variants applied in order."""
    return recipes.apply_variants(recipes.base_config("mini_kinetics", 200), variants, VARIANTS)

r"""AR-Net on ActivityNet-v1.3, as in Section 4.1 of the paper.

    arnet train --config=activitynet --workdir=RUN \
        --config.data.source_dir=SOURCE --config.data.data_dir=DATA

`SOURCE` holds `activity_net.v1-3.min.json` and the videos, `v_<id>.*`, in any folders below it; or
the lists of the released code and `frames/` (see `datasets/activitynet`). Videos that are gone from
the web are told; more than 5 % of them are an error unless `--config.data.max_missing_share` says
otherwise. 10,024 training, 4,926 validation videos. The paper reports, trained on 4 GPUs:
73.8 mAP at 33.5 GFLOPs per video; EfficientNet 79.7 at 15.3.

Variants, combined with commas (`--config=activitynet:efficientnet,uniform`):
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
    return recipes.apply_variants(recipes.base_config("activitynet", 200), variants, VARIANTS)

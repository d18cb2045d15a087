"""Xception (Chollet 2017, arXiv:1610.02357) for CT slices, as a transformers model that saves a stock checkpoint.

`CTXceptionForImageClassification` adds to transformers' wrapper of timm what CT needs while training and explaining;
nothing of it is needed to read what it saves.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TimmWrapperForImageClassification
from transformers.conversion_mapping import PrefixChange, register_checkpoint_conversion_mapping

from ct_xception.checkpoint import ATTENTIONS, HEADS
from ct_xception.checkpoint_files import TabularRule
from ct_xception.errors import InputError
from ct_xception.files import telling_of_disk
from ct_xception.model.attention import AttentionPool, add_attention
from ct_xception.model.configuration import CTXceptionConfig, label_names, make_config
from ct_xception.model.tabular import TabularPart
from ct_xception.model.weights import find_weights, load_backbone_weights

# ITU-R BT.601 luma, the grey that Pillow's convert("L") and our reader make of a coloured picture.
LUMINANCE = (0.299, 0.587, 0.114)

# transformers applies the wrapper's own renaming of keys (ours in memory, timm's on disk) to its own classes only.
register_checkpoint_conversion_mapping(
    "CTXceptionForImageClassification", [PrefixChange(prefix_to_add="timm_model")], overwrite=True
)


class CTXceptionForImageClassification(TimmWrapperForImageClassification):
    """A timm Xception with a linear head over any number of classes, on features pooled by average or by attention.

    `forward(pixel_values, labels=None)` takes (B, 3, S, S) float32 in [-1, 1] and gives logits (B, K); with labels (B,)
    int64 also the cross-entropy loss. A network with `config.tabular` takes `tabular` (B, D), too, as
    `ct_xception.tabular.Tabular` encodes it; without it every column counts as missing.
    """

    config_class = CTXceptionConfig

    def __init__(self, config: CTXceptionConfig) -> None:
        super().__init__(config)
        add_attention(self.timm_model, config.head, config.attention)
        self.row: torch.Tensor | None = None  # (D,): what `with_row` gave every image
        if config.tabular is not None:
            rule = TabularRule.of(config.tabular, "config.json: tabular")
            self.timm_model.add_module("tabular", TabularPart(rule, len(label_names(config))))

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        tabular: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if self.tabular is None:
            return super().forward(pixel_values, labels=labels, **kwargs)
        found = super().forward(pixel_values, **kwargs | {"return_dict": True})
        found.logits = found.logits + self._of_rows(found.logits, tabular)
        if labels is not None:
            found.loss = self.loss_function(labels, found.logits, self.config)
        return found if kwargs.get("return_dict") in (None, True) else found.to_tuple()

    @classmethod
    def from_backbone(
        cls,
        backbone: str,
        label_names: Sequence[str],
        image_size: int,
        *,
        weights: str = "none",
        dropout: float = 0.0,
        seed: int = 0,
        head: str = HEADS[0],
        attention: str = ATTENTIONS[0],
        tabular: TabularRule | None = None,
    ) -> CTXceptionForImageClassification:
        """A network for these classes, its body from `weights` ("hub", "none", a file or a checkpoint folder).

        The head is always new; `seed` governs it, and the body where that is random. `dropout` in [0, 1) is the rate
        before the head. `head`, `attention` and `tabular` are those of `CTXceptionConfig`. Raises `InputError` for bad
        options and `CheckpointError` for weights that do not fit.
        """
        if not 0.0 <= dropout < 1.0:
            raise InputError(f"dropout: {dropout} is out of range; give a rate from 0 up to, not including, 1.")
        config = make_config(backbone, label_names, image_size, head=head, attention=attention, tabular=tabular)
        file = find_weights(weights, backbone)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config)
        if file is not None:
            load_backbone_weights(model.timm_model, file, new=model.head_names)
        model.set_dropout(dropout)
        return model

    @property
    def label_names(self) -> list[str]:
        """The class names in index order."""
        return label_names(self.config)

    @property
    def head(self) -> nn.Linear:
        """The linear layer from pooled features (B, 2048) to logits (B, K)."""
        return self.timm_model.get_classifier()

    @property
    def pool(self) -> AttentionPool | None:
        """What pools the last feature map by attention; None where it is averaged."""
        pool = getattr(self.timm_model, "head", self.timm_model).global_pool
        return pool if isinstance(pool, AttentionPool) else None

    @property
    def tabular(self) -> TabularPart | None:
        """What the columns of a table add to the logits; None where the network sees the image alone."""
        part = getattr(self.timm_model, "tabular", None)
        return part if isinstance(part, TabularPart) else None

    def with_row(self, row: torch.Tensor) -> CTXceptionForImageClassification:
        """The same network, its weights shared, that gives every image this row (D,) where none is given."""
        twin = copy.copy(self)
        twin.row = row
        return twin

    def _of_rows(self, logits: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        """What the rows (B, D) add to logits (B, K)."""
        assert self.tabular is not None
        given = self.tabular.absent(logits) if self.row is None else self.row.to(logits)
        return self.tabular(given.expand(len(logits), -1) if rows is None else rows.to(logits))

    @property
    def head_names(self) -> tuple[str, ...]:
        """What the tensors of head, pooling and columns are called in timm's layout, up to the last dot."""
        classifier: str = self.config.pretrained_cfg["classifier"]
        return classifier, f"{classifier.removesuffix('fc')}global_pool", "tabular"

    def head_parameters(self) -> list[nn.Parameter]:
        """The linear layer's parameters, those of the attention that pools for it and of what is taken beside it."""
        parts = [self.head, *filter(None, (self.pool, self.tabular))]
        return [parameter for part in parts for parameter in part.parameters()]

    def body_parameters(self) -> list[nn.Parameter]:
        """Every parameter but the head's."""
        head = {id(parameter) for parameter in self.head_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in head]

    @property
    def block_count(self) -> int:
        """The number of residual blocks of the body."""
        return len(self._stages()) - 1

    def first_blocks(self, count: int) -> list[nn.Module]:
        """The stem and the first `count` blocks, nearest to the image first; none of them for 0.

        Raises `InputError` where the network has fewer blocks.
        """
        if not 0 <= count <= self.block_count:
            raise InputError(f"frozen_blocks: {count} is not from 0 to {self.block_count}, this backbone's blocks.")
        return [module for stage in self._stages()[: count + 1] for module in stage] if count else []

    def _stages(self) -> list[list[nn.Module]]:
        """The stem's modules, then each block's."""
        if hasattr(self.timm_model, "blocks"):  # the aligned variants
            return [[self.timm_model.stem], *([block] for block in self.timm_model.blocks)]
        children = dict(self.timm_model.named_children())
        blocks = [name for name in children if name.startswith("block")]
        stem = itertools.takewhile(lambda name: name not in blocks, children)
        return [[children[name] for name in stem], *([children[name]] for name in blocks)]

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The last feature map (B, 2048, h, w) of pixel_values (B, 3, S, S)."""
        return self.timm_model.forward_features(pixel_values)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) from the last feature map (B, 2048, h, w)."""
        return self._fused(self.timm_model.forward_head(features), None)

    def _fused(self, logits: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        return logits if self.tabular is None else logits + self._of_rows(logits, rows)

    def outputs(
        self, pixel_values: torch.Tensor, tabular: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What one forward pass of pixel_values (B, 3, S, S), with rows (B, D) or without, gives in every runtime.

        Logits (B, K); pooled features (B, 2048), as the head sees them; and the class activation maps (B, K, h, w) of
        all classes, as `class_activation_map` defines them.
        """
        maps = self.features(pixel_values)
        pooled = self.timm_model.forward_head(maps, pre_logits=True)
        cam = nn.functional.conv2d(self.weighed(maps), self.head.weight[:, :, None, None])
        return self._fused(self.head(pooled), tabular), pooled, cam

    def weighed(self, features: torch.Tensor) -> torch.Tensor:
        """The last feature map (B, 2048, h, w) as the head sees it: its plain mean over h and w is what is pooled."""
        if self.pool is None:
            return features
        return features * (self.pool.shares(features) * (features.shape[2] * features.shape[3]))

    def class_activation_map(self, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The closed-form map (B, h, w) of each item's target class (B,): the head's weights over the feature map.

        Its mean over h and w, plus the head's bias, is the logit (Zhou et al. 2016, arXiv:1512.04150). Grad-CAM is
        this map divided by h * w (Selvaraju et al. 2017, arXiv:1610.02391) where an average and a linear layer follow;
        where attention pools, each place counts here by its share, as in the logit.
        """
        return torch.einsum("bchw,bc->bhw", self.weighed(features), self.head.weight[target])

    def set_dropout(self, rate: float) -> None:
        """Drop this share of pooled features while training; config.json does not carry it."""
        if hasattr(self.timm_model, "head"):
            self.timm_model.head.drop.p = rate
        self.timm_model.drop_rate = rate

    def set_tabular_dropout(self, rate: float) -> None:
        """Withhold this share of rows while training, and a third of it of each column; no file carries it."""
        if self.tabular is not None:
            self.tabular.rate = rate

    def _parts(self) -> tuple[list[nn.Module], int]:
        """Stem, blocks and what follows, in the order in which they are run, and which of them strides last."""
        parts = [
            part
            for child in self.timm_model.children()
            for part in (child if isinstance(child, nn.Sequential) else [child])
        ]
        strided = [any(_stride(layer) > 1 for layer in _windows(part)) for part in parts]
        return parts, max(index for index, strides in enumerate(strided) if strides)

    def before_last_stride(self) -> nn.Module:
        """The block whose output is the last feature map with a cell every 16 pixels, in Xception the middle flow's."""
        parts, last = self._parts()
        return parts[last - 1]

    def undo_last_stride(self) -> None:
        """Make the last feature map twice as fine, (B, 2048, S/16, S/16); its even cells stay as they were.

        The last block that strides no longer does, and what follows is dilated instead, so that each cell reads what it
        was trained to read: the odd ones give what the network would give for the picture moved by 16 pixels (the
        "à trous" algorithm; Chen et al. 2015, arXiv:1412.7062). For maps, not for answers: the head was trained on the
        mean over the even cells.
        """
        parts, last = self._parts()
        for layer in _windows(parts[last]):
            layer.stride = (1, 1)
        gates = [part for name, part in parts[last].named_modules() if name.endswith(".attention")]
        for layer in itertools.chain.from_iterable(map(_windows, [*gates, *parts[last + 1 :]])):
            if layer.kernel_size not in (1, (1, 1)):
                layer.dilation = (2, 2)
                layer.padding = tuple(2 * side for side in layer.padding)  # type: ignore

    @torch.no_grad()
    def tie_stem_to_luminance(self) -> None:
        """Make the first convolution read a coloured picture as its luminance, leaving grey pictures' logits alone.

        On a grey picture the three channels are equal, so only the sum of the kernels over channels counts; sharing
        that sum out by BT.601 gives the same answer, and on a coloured one conv(x) = conv(luma(x)). Exact because the
        channels share one mean and one standard deviation.
        """
        stem = self.timm_model.get_submodule(self.config.pretrained_cfg["first_conv"])
        total = stem.weight.sum(dim=1, keepdim=True)  # (C, 1, 3, 3)
        luma = torch.tensor(LUMINANCE, dtype=total.dtype, device=total.device).view(1, 3, 1, 1)
        stem.weight.copy_(total * luma)

    @torch.no_grad()
    def fold_temperature(self, temperature: float) -> None:
        """Divide the head by `temperature` (> 0), so that every reader's probabilities are the scaled ones."""
        if not temperature > 0:
            raise InputError(f"temperature: {temperature} is not above 0.")
        self.head.weight.div_(temperature)
        self.head.bias.div_(temperature)
        if self.tabular is not None:
            self.tabular.share.weight.div_(temperature)

    def save_pretrained(self, save_directory: str | PathLike[Any], **kwargs: Any) -> None:  # type: ignore[override]
        """Write config.json and model.safetensors (timm's own keys) as stock transformers and timm read them.

        The keys are given here because transformers undoes the renaming only for models that it has loaded itself.
        """
        state = {key: value.contiguous() for key, value in self.timm_model.state_dict().items()}
        with telling_of_disk(Path(save_directory), sum(one.nbytes for one in state.values())):
            super().save_pretrained(save_directory, **{"state_dict": state, "save_original_format": False, **kwargs})


def _windows(part: nn.Module) -> list[nn.Conv2d | nn.MaxPool2d]:
    return [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]


def _stride(layer: nn.Conv2d | nn.MaxPool2d) -> int:
    return layer.stride[0] if isinstance(layer.stride, tuple) else layer.stride

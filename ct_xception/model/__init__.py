"""Xception as a transformers PreTrainedModel, which transformers' Auto classes know once this package is imported."""

from transformers import AutoConfig, AutoModelForImageClassification

from ct_xception.model.configuration import CTXceptionConfig
from ct_xception.model.modelling import CTXceptionForImageClassification

AutoConfig.register(CTXceptionConfig.model_type, CTXceptionConfig, exist_ok=True)
AutoModelForImageClassification.register(CTXceptionConfig, CTXceptionForImageClassification, exist_ok=True)

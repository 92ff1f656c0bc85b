"""LoRA, as diffusers' pipelines have it: adapters by name, weights, fusing.

What is loaded belongs to the components (_components.Adaptable), so that pipelines that share a
UNet share its adapters. Nothing is changed in place: each component keeps its plain weights beside
those that the active adapters make of them, and switching packs only the networks that change.
"""

import logging

from .. import _core
from . import _files

logger = logging.getLogger("styx.diffusers")

USUAL_NAME = "pytorch_lora_weights.safetensors"


class LoraLoader:
    """What a pipeline says to its components' adapters."""

    _lora_loadable_modules = ()

    def _adaptables(self, names=None):
        """Components by name that LoRAs change."""
        for name in names or ():
            if name not in self._lora_loadable_modules:
                raise ValueError(f"{name} is not found in self._lora_loadable_modules="
                                 f"{list(self._lora_loadable_modules)}.")
        return {k: self._parts[k] for k in names or self._lora_loadable_modules
                if self._parts.get(k) is not None}

    def load_lora_weights(self, pretrained_model_name_or_path_or_dict, adapter_name=None,
                          hotswap=False, **kwargs):
        """Loads a LoRA (a file, a folder, a name in the cache, or arrays by name) for the UNet and
        the text encoders, and makes it the active one. weight_name: its file in a folder.

        adapter_name: what set_adapters calls it, "default_0", "default_1"... if nothing is said.
        The file is read again when weights change. Keys that fit nothing are warned of; none that
        fits is a ValueError.
        """
        given = pretrained_model_name_or_path_or_dict
        parts = self._adaptables()
        taken = {name for part in parts.values() for name in part._adapters}
        if adapter_name is None:
            adapter_name = f"default_{len(taken)}"
        if hotswap and adapter_name not in taken:
            raise ValueError(f"Trying to hotswap LoRA adapter '{adapter_name}' but there is no "
                             f"existing adapter by that name.")
        if not hotswap and adapter_name in taken:
            raise ValueError(f"Adapter name {adapter_name} already in use in the model - please "
                             f"select a new adapter name.")
        weights = (_files.of_arrays(given) if isinstance(given, dict)
                   else _files.find(given, USUAL_NAME, kwargs, guess=True))
        plain = _core.model_assemble(None, None, {k: v._handle for k, v in parts.items()})
        model, warnings, changed = _core.model_adapt(plain, [(weights.path, 1.0)], [])
        if not changed:
            raise ValueError(f"{weights.path}: no key of this LoRA belongs to the pipeline. "
                             + " ".join(warnings))
        for line in warnings:
            logger.warning(line)
        if hotswap:
            self.delete_adapters(adapter_name)
        for name in changed:
            parts[name]._load(adapter_name, weights, _core.model_component(model, name))

    def unload_lora_weights(self):
        """Forgets all adapters; what was fused stays."""
        for part in self._adaptables().values():
            part._unload()

    def set_adapters(self, adapter_names, adapter_weights=None):
        """Makes these adapters the active ones. adapter_weights: one number, one for each, or for
        each a dict of component to number; None is 1."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        weights = (list(adapter_weights) if isinstance(adapter_weights, list)
                   else [adapter_weights] * len(names))
        if len(names) != len(weights):
            raise ValueError(f"Length of adapter names {len(names)} is not equal to the length of "
                             f"the weights {len(weights)}")
        parts = self._adaptables()
        known = {name for part in parts.values() for name in part._adapters}
        missing = set(names) - known
        if missing:
            raise ValueError(f"Adapter name(s) {missing} not in the list of present adapters: "
                             f"{known}.")
        for w in weights:
            for key in set(w) - set(self._lora_loadable_modules) if isinstance(w, dict) else ():
                logger.warning(f"adapter_weights: {key} is not a component of this pipeline that "
                               f"LoRAs change")
        for key, part in parts.items():
            part.set_adapters(names, [w.get(key) if isinstance(w, dict) else w for w in weights])

    def get_active_adapters(self):
        """Names of the active adapters of the UNet."""
        return list(self._adaptables(["unet"])["unet"]._active)

    def get_list_adapters(self):
        """Component to the names of its adapters."""
        return {k: list(v._adapters) for k, v in self._adaptables().items() if v._adapters}

    def delete_adapters(self, adapter_names):
        """Forgets some adapters."""
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        for part in self._adaptables().values():
            part._forget(names)

    def disable_lora(self):
        """Draws without any LoRA until enable_lora()."""
        for part in self._adaptables().values():
            part._lora_off = True

    def enable_lora(self):
        """Takes disable_lora() back."""
        for part in self._adaptables().values():
            part._lora_off = False

    def fuse_lora(self, components=None, lora_scale=1.0, safe_fusing=False, adapter_names=None,
                  **kwargs):
        """Makes the active adapters (or those named) part of the weights: they stay as they are
        whatever set_adapters and cross_attention_kwargs say, also when adapters are unloaded."""
        components = self._lora_loadable_modules if components is None else components
        if not components:
            raise ValueError("`components` cannot be an empty list.")
        for part in self._adaptables(components).values():
            part._fuse(lora_scale, adapter_names)

    def unfuse_lora(self, components=None, **kwargs):
        """Takes fuse_lora back."""
        components = self._lora_loadable_modules if components is None else components
        if not components:
            raise ValueError("`components` cannot be an empty list.")
        for part in self._adaptables(components).values():
            part._fused = {}

    @property
    def fused_loras(self):
        """Names of the adapters that are fused."""
        return {name for part in self._adaptables().values()
                for name in (*part._fused, *part._baked)}

    @property
    def num_fused_loras(self):
        return len(self.fused_loras)

    def set_lora_device(self, adapter_names, device):
        """Nothing to move: adapters are merged where the engine runs."""

"""What calls return: attributes, and places like a tuple."""


class BaseOutput:
    """Fields by name, by number or as a tuple; those that are None are not in the tuple."""

    fields = ()

    def __init__(self, *args, **kwargs):
        for name in self.fields:
            setattr(self, name, None)
        for name, value in zip(self.fields, args):
            setattr(self, name, value)
        for name, value in kwargs.items():
            setattr(self, name, value)

    def to_tuple(self):
        return tuple(getattr(self, k) for k in self.keys())

    def keys(self):
        return [name for name in self.fields if getattr(self, name) is not None]

    def values(self):
        return [getattr(self, name) for name in self.keys()]

    def items(self):
        return [(name, getattr(self, name)) for name in self.keys()]

    def __iter__(self):
        return iter(self.keys())

    def __len__(self):
        return len(self.keys())

    def __contains__(self, name):
        return name in self.keys()

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in self.fields:
                raise KeyError(key)
            return getattr(self, key)
        return self.to_tuple()[key]

    def __repr__(self):
        inside = ", ".join(f"{name}={value!r}" for name, value in self.items())
        return f"{type(self).__name__}({inside})"


class StableDiffusionPipelineOutput(BaseOutput):
    """images: list of pictures, or an array. nsfw_content_detected: list of bool, or None.

    seeds, seconds: Styx's own: the seed of each picture's generator, seconds by stage.
    """

    fields = ("images", "nsfw_content_detected")
    seeds = seconds = None


class StableDiffusionXLPipelineOutput(BaseOutput):
    """images: list of pictures, or an array. seeds, seconds: as StableDiffusionPipelineOutput's."""

    fields = ("images",)
    seeds = seconds = None

"""Types of styx.transformers."""

from typing import Any

from .diffusers import BaseOutput, _Component
from .torch import Tensor

class BatchEncoding(dict[str, Any]):
    input_ids: Any
    attention_mask: Any

class CLIPTokenizer(_Component):
    bos_token: str
    eos_token: str
    pad_token: str
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    model_max_length: int
    def __call__(self, text: str | list[str], padding: bool | str = False,
                 max_length: int | None = None, truncation: bool = False,
                 return_tensors: str | None = None, **ignored: Any) -> BatchEncoding: ...
    def tokenize(self, text: str) -> list[str]: ...
    def encode(self, text: str, **kwargs: Any) -> list[int]: ...
    def decode(self, ids: Any, skip_special_tokens: bool = False, **ignored: Any) -> str: ...
    def batch_decode(self, rows: Any, skip_special_tokens: bool = False,
                     **ignored: Any) -> list[str]: ...

class CLIPTextModelOutput(BaseOutput):
    text_embeds: Tensor | None
    last_hidden_state: Tensor
    pooler_output: Tensor | None
    hidden_states: tuple[Tensor, ...] | None

class CLIPTextModel(_Component):
    def __call__(self, input_ids: Any, attention_mask: Any = None, position_ids: Any = None,
                 output_attentions: bool | None = None, output_hidden_states: bool | None = None,
                 return_dict: bool = True) -> CLIPTextModelOutput: ...

class CLIPTextModelWithProjection(CLIPTextModel): ...
class CLIPImageProcessor(_Component): ...

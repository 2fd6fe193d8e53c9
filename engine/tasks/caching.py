"""Keys and values of what was read, with room for what will be written: a step copies one token and not all of them.

Transformers' growing cache makes a new tensor of everything at each token, which for a batch after a long prompt is
most of the time of a step. Only plain layers get room; sliding windows and others stay as the library has them.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

SPARE = 64  # tokens of room that are added at a time


class RoomyLayer(DynamicLayer):
    """A layer whose tensors are the beginnings of larger ones."""

    def __init__(self) -> None:
        """No room before the first token."""
        super().__init__()  # type: ignore[no-untyped-call] # the library's
        self._rooms: dict[str, Tensor] = {}

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - the library's signature
        """Append keys and values (rows x heads x tokens x width) and give all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._appended("keys", self.keys, key_states)
        self.values = self._appended("values", self.values, value_states)
        return self.keys, self.values

    def _appended(self, name: str, held: Tensor | None, new: Tensor) -> Tensor:
        """In place where there is room; rows that were selected or repeated are other tensors and get a new one."""
        length = 0 if held is None or not held.numel() else held.shape[-2]
        total, room = length + new.shape[-2], self._rooms.get(name)
        mine = room is not None and held is not None and room.data_ptr() == held.data_ptr() and len(room) == len(new)
        if room is None or not mine or room.shape[-2] < total:
            room = new.new_empty(*new.shape[:-2], total + SPARE, new.shape[-1])
            if held is not None and length:
                room[..., :length, :] = held
            self._rooms[name] = room
        room[..., length:total, :] = new
        return room[..., :total, :]


def roomy_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for a model of this configuration."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache

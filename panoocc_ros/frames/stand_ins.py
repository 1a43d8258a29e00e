"""What a frame has where a camera has no image that can be used: its last good one, or nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from panoocc_core.optics import LensModel
from panoocc_core.types import CameraImage

from ..streams.missing import MissingPolicy
from .sets import ReadySet, Refused

BLANK_HW = (360, 640)  # where nobody says how large the images of a camera would be


@dataclass(slots=True)
class StandIns:
    """Remembers the last good image of every camera.  Belongs to the thread that decodes."""

    policy: MissingPolicy
    reuse_age_ns: int  # the oldest image that `reuse_last` takes
    _good: dict[str, CameraImage] = field(default_factory=dict)
    _lenses: dict[str, LensModel | None] = field(default_factory=dict)

    def fill(
        self, ready: ReadySet, names: Sequence[str], decoded: Mapping[str, CameraImage | Refused]
    ) -> tuple[CameraImage, ...]:
        """An image for each of the cameras `names`; those that are not in `decoded` have sent none.

        Raises:
            Refused: an image was refused and sets that lack one are dropped, or no image of this set can be used.
        """
        if ready.reset is not None:  # the poses of what is remembered lie in another world
            self._good.clear()
        good = {name: one for name, one in decoded.items() if not isinstance(one, Refused)}
        refusals = [one for one in decoded.values() if isinstance(one, Refused)]
        if refusals and (self.policy == "drop" or not good.keys() - set(ready.messages.reused)):
            raise refusals[0]
        self._good |= good
        self._lenses |= {name: one.lens for name, one in good.items()}
        return tuple(good[name] if name in good else self._stand_in(name, ready, name in decoded) for name in names)

    def _stand_in(self, name: str, ready: ReadySet, is_refused: bool) -> CameraImage:
        last = self._good.get(name) if is_refused and self.policy == "reuse_last" else None
        if last is None or not 0 <= ready.stamp_ns - last.stamp_ns <= self.reuse_age_ns:
            return _blank(name, ready, self._lenses.get(name))
        return last


def _blank(name: str, ready: ReadySet, lens: LensModel | None) -> CameraImage:
    """A camera that sees nothing: what is not known of it does not matter.

    Its lens is what it was, so that the network's step keeps its form.
    """
    return CameraImage(
        name=name,
        stamp_ns=ready.stamp_ns,
        image=torch.zeros((*BLANK_HW, 3), dtype=torch.uint8),
        intrinsics=np.eye(3),
        ego_from_camera=np.eye(4),
        world_from_ego=ready.world_from_ego,
        is_blank=True,
        lens=lens,
    )

"""A rig file says which topics and frames the cameras of a vehicle have (`config/rigs/<name>.yaml`)."""

from dataclasses import dataclass, replace
from typing import Annotated

from panoocc_core.base.ranges import Length, Text, Within, check_ranges
from panoocc_core.base.rig_files import AUTO
from panoocc_core.base.strict_yaml import ConfigError, build, load_yaml, named_yaml
from panoocc_core.cameras.lens import LensUse

from ..streams.transforms import clean_frame

OffsetMs = Annotated[float, Within(-10_000, 10_000)]
SpreadMs = Annotated[float, Within(0.001, 10_000)]
PeriodMs = Annotated[float, Within(0.1, 60_000)]


@dataclass(frozen=True, slots=True)
class RigCamera:
    """One camera: the name that the network knows it by, and where its images come from."""

    name: Text
    topic: Text  # sensor_msgs/Image or sensor_msgs/CompressedImage
    info_topic: Text
    compressed: bool | None = None  # CompressedImage? None: as the graph or the bag says
    frame: Text | None = None  # optical frame, where the images' header.frame_id is empty or wrong
    rectified: bool | None = None  # None: rectified when the topic is called so (image_rect)
    lens: LensUse = "undistort"  # of images with distortion; "project" leaves it in them, for views beyond 120 degrees
    shutter_offset_ms: OffsetMs = 0.0  # how much later than the reference camera this one is exposed

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.frame is not None:
            object.__setattr__(self, "frame", clean_frame(self.frame))

    @property
    def is_rectified(self) -> bool:
        """Whether the images have no lens distortion any more."""
        return "image_rect" in self.topic if self.rectified is None else self.rectified

    @property
    def is_compressed(self) -> bool:
        """Whether the topic holds CompressedImage, by its name where the rig does not say and nobody can be asked."""
        return self.topic.endswith("/compressed") if self.compressed is None else self.compressed

    @property
    def shutter_offset_ns(self) -> int:
        """`shutter_offset_ms` in nanoseconds."""
        return round(self.shutter_offset_ms * 1e6)


@dataclass(frozen=True, slots=True)
class Rig:
    """The cameras of a vehicle, its frames, and how far apart images of one instant may be.

    Raises:
        ValueError: a name or a topic is used twice or empty, the reference is none of the cameras, or a number is out
            of its limits.
    """

    cameras: Annotated[tuple[RigCamera, ...], Length(1, 100)]
    reference: Text  # the camera whose stamp a set of images gets
    base_frame: Text = "base_link"
    network_frame: Text | None = None  # in which the network's voxels lie; None: where its configuration has them
    fixed_frame: Text = AUTO  # "auto": odom, map or world above base_frame, else the nearest frame that it moves in
    spread_ms: SpreadMs = 50.0  # largest distance of an image from the reference, after shutter_offset_ms
    period_ms: PeriodMs | None = None  # usual time between two images of one camera; None: estimated
    tf_topic: Text = "/tf"
    tf_static_topic: Text = "/tf_static"
    auto: bool = True  # whether "rig: auto" may take it, where it lies in config/rigs

    def __post_init__(self) -> None:
        check_ranges(self)
        for kind in ("name", "topic", "info_topic"):
            values = [getattr(camera, kind) for camera in self.cameras]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"cameras: {kind} {twice[0]!r} is used twice")
        if self.reference not in self.names:
            raise ValueError(f"reference {self.reference!r} is none of the cameras {', '.join(self.names)}")
        for key in ("base_frame", "fixed_frame", "network_frame"):
            if getattr(self, key) is not None:
                object.__setattr__(self, key, clean_frame(getattr(self, key)))
        for key in ("base_frame", "fixed_frame", "network_frame", "tf_topic", "tf_static_topic"):
            if getattr(self, key) == "":
                raise ValueError(f"{key} must not be empty")
        if self.tf_topic == self.tf_static_topic:
            raise ValueError(f"tf_topic and tf_static_topic are both {self.tf_topic!r}")

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras' names in the order of the file."""
        return tuple(camera.name for camera in self.cameras)

    @property
    def spread_ns(self) -> int:
        """`spread_ms` in nanoseconds."""
        return round(self.spread_ms * 1e6)

    @property
    def period_ns(self) -> int | None:
        """`period_ms` in nanoseconds."""
        return None if self.period_ms is None else round(self.period_ms * 1e6)

    def camera(self, name: str) -> RigCamera:
        """The camera called `name`.

        Raises:
            KeyError: there is none.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise KeyError(f"the rig has no camera {name!r}, only {', '.join(self.names)}")

    def select(self, names: tuple[str, ...]) -> "Rig":
        """The same rig with the cameras that a network uses, in the network's order.

        Raises:
            ConfigError: the network needs a camera that the rig lacks.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise ConfigError(
                f"the network takes the cameras {', '.join(names)}, of which the rig lacks {', '.join(missing)} (it "
                f"has {', '.join(self.names)}): name the rig's cameras after the network's, or choose another network"
            )
        reference = self.reference if self.reference in names else names[0]
        return replace(self, cameras=tuple(self.camera(name) for name in names), reference=reference)


def load_rig(name_or_path: str) -> Rig:
    """The rig called so in `config/rigs`, or the one in a YAML file.

    Raises:
        ConfigError: there is no such rig, or its file cannot be used; the text names file, key and what is allowed.
    """
    path = named_yaml("rigs", name_or_path, "rig")
    return build(Rig, load_yaml(path), str(path))

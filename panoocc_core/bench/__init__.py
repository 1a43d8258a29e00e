"""Measurements: networks stage by stage beside their floors, images on their way to a network, simulated images."""

from .against import RivalError, against_table, alternate, serve
from .comparison import Agreement, Stream, compare, reference_stream
from .frame_file import read_frame_file, write_frame
from .image_steps import ImageReport, bench_images, images_table
from .machine import computing_threads, hardware
from .measured import (
    COMPARED_FRAMES,
    EXECUTORS,
    GRID_ALONE,
    Effort,
    NetworkReport,
    Setting,
    measure,
    steady,
    stream_times,
)
from .needs import check_memory
from .network_table import draw_networks, network_table, summary_table
from .rendering import RenderReport, bench_rendering, rendering_table
from .sweep import draw_sweep, sweep_sizes, sweep_table, variants

__all__ = [
    "COMPARED_FRAMES",
    "EXECUTORS",
    "GRID_ALONE",
    "Agreement",
    "Effort",
    "ImageReport",
    "NetworkReport",
    "RenderReport",
    "RivalError",
    "Setting",
    "Stream",
    "against_table",
    "alternate",
    "bench_images",
    "bench_rendering",
    "check_memory",
    "compare",
    "computing_threads",
    "draw_networks",
    "draw_sweep",
    "hardware",
    "images_table",
    "measure",
    "network_table",
    "read_frame_file",
    "reference_stream",
    "rendering_table",
    "serve",
    "steady",
    "stream_times",
    "summary_table",
    "sweep_sizes",
    "sweep_table",
    "variants",
    "write_frame",
]

"""Measurements: networks stage by stage, the rendering of images, and the steps of an image to the network."""

from .comparison import Agreement, Stream, compare, reference_stream
from .image_steps import ImageReport, bench_images, images_table
from .measured import (
    BenchReport,
    RenderReport,
    bench,
    bench_rendering,
    hardware,
    one_thread,
    rendering_table,
    table,
)

__all__ = [
    "Agreement",
    "BenchReport",
    "ImageReport",
    "RenderReport",
    "Stream",
    "bench",
    "bench_images",
    "bench_rendering",
    "compare",
    "hardware",
    "images_table",
    "one_thread",
    "reference_stream",
    "rendering_table",
    "table",
]

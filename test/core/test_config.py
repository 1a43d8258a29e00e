"""The configuration tree: presets are data, and nothing in a file is ignored."""

from dataclasses import replace

import pytest
import yaml

from panoocc_core.base.rig_files import rig_with
from panoocc_core.config import ConfigError, InternImageConfig, model_config, presets
from panoocc_core.labels import OCC3D_WAYMO
from panoocc_core.models import build_network
from panoocc_core.preprocess import crop_window
from panoocc_core.voxels import extent_m

PUBLISHED = {
    "pano_small_occ3d": ((200, 200, 16), (448, 800), 18),
    "pano_base_occ3d": ((200, 200, 16), (864, 1600), 18),
    "pano_base_pretrain_occ3d": ((200, 200, 16), (864, 1600), 18),
    "pano_small_1f": ((400, 400, 64), (320, 800), 17),
    "pano_small_4f": ((400, 400, 64), (320, 800), 17),
    "pano_base_4f": ((400, 400, 64), (640, 1600), 17),
    "pano_large_4f": ((400, 400, 64), (640, 1600), 17),
}


@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items())
def test_published_presets(name, expected):
    config = model_config(name)
    assert (config.output_shape_xyz, config.images.padded_hw, config.class_count) == expected
    assert config.labels.free_id == 17


def test_every_preset_loads():
    assert set(PUBLISHED) < set(presets())
    assert all(model_config(name).name == name for name in presets())


def test_variants_that_concatenate_history_keep_everything_else():
    for name, base in (("pano_base_4f_cat", "pano_base_4f"), ("pano_xl_4f_cat", "pano_large_4f")):
        config = model_config(name)
        assert config.temporal.kind == "concat" and config.temporal.ages_s == (1.5, 1.0, 0.5)
        assert config.temporal.keep_height and config.published_decoder == "voxel_encoder"
        same = {"name": base, "description": "", "origin": config.origin, "temporal": config.temporal}
        assert replace(model_config(base), **same) == replace(config, name=base, description="")
        assert config.origin.confirmed.startswith("nothing")


def test_points_of_the_high_resolution_preset_have_cells_of_a_fifth_of_a_metre():
    config = model_config("pano_large_4f_hr")
    assert config.points.rule == "high_resolution" and config.output_shape_xyz == (400, 400, 64)
    size_m = [length / count for length, count in zip(extent_m(config.grid), config.points.cells_xyz)]
    assert size_m == [0.2, 0.2, 0.05]


def test_what_a_file_says_about_its_checkpoint_does_not_hold_for_those_that_extend_it(tmp_path):
    assert model_config("nano").origin.checkpoint == "comes with the package"
    config = model_config(variant(tmp_path))
    assert (config.title, config.origin.checkpoint, config.origin.confirmed) == ("mine", "none", "nothing")


def test_the_rig_of_a_network_is_found_by_its_cameras(tmp_path):
    for folder in ("rigs", "sim_rigs"):
        assert rig_with(folder, model_config("nano").cameras) == "nuscenes"
        assert rig_with(folder, model_config("pano_waymo_base").cameras) == "waymo"
        assert rig_with(folder, ("CAM_BACK", "CAM_FRONT")) == "nuscenes"  # and others that are not used
        with pytest.raises(ConfigError, match="no rig has the network's cameras TOP, .*waymo has FRONT, FRONT_LEFT"):
            rig_with(folder, ("TOP",))


def test_networks_for_waymo_are_relatives_of_those_for_nuscenes():
    small, base = model_config("pano_waymo_small"), model_config("pano_waymo_base")
    for config in (small, base, model_config("nano_waymo")):
        assert len(config.cameras) == 5 and config.labels is OCC3D_WAYMO and config.class_count == 16
        assert not config.boxes.classes
    assert small.output_shape_xyz == base.output_shape_xyz == (200, 200, 16)
    assert small.grid.range_m == model_config("pano_small_occ3d").grid.range_m
    assert (small.images.padded_hw, base.images.padded_hw) == ((416, 800), (800, 1600))
    for size_hw in ((1280, 1920), (886, 1920)):  # the horizon is in the middle of the images, and most of their width
        top, _, _, columns = crop_window(size_hw, small.images)
        assert top < 0.3 * size_hw[0] and columns > 0.9 * size_hw[1]


def test_a_kind_replaces_what_it_extends():
    assert isinstance(model_config("pano_large_4f").backbone, InternImageConfig)


def variant(tmp_path, **changes):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "nano", **changes}))
    return path


def test_a_smaller_relative_needs_no_code(tmp_path):
    config = model_config(variant(tmp_path, grid={"rows": 10, "columns": 12}, cameras=["LEFT", "RIGHT"]))
    assert config.name == "mine" and config.output_shape_xyz == (24, 20, 16) and config.cameras == ("LEFT", "RIGHT")
    assert config.grid.layers == model_config("nano").grid.layers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "mine.yaml: unknown key 'colour'; the keys here are backbone, boxes"),
        ({"grid": {"hight": 3}}, "mine.yaml.grid: unknown key 'hight'"),
        ({"grid": {"rows": "many"}}, "mine.yaml.grid.rows: 'many' is not of type int"),
        ({"grid": {"rows": True}}, "mine.yaml.grid.rows: True is not of type int"),
        ({"grid": {"rows": 0}}, "mine.yaml.grid: rows must be 1 to 4096, not 0"),
        ({"backbone": {"kind": "vit"}}, "mine.yaml.backbone.kind: 'vit' is not one of 'resnet', 'internimage'"),
        ({"images": {"channel_order": "GBR"}}, "'GBR' is not one of 'RGB', 'BGR'"),
        ({"images": {"mean": [1.0, 2.0]}}, "must be a list of 3 values, not 2"),
        ({"temporal": {"ages_s": [1.0, 2.0]}}, "ages_s must be in order, oldest first"),
        (
            {"decoder": {"empty_below": 0.3}, "label_key": "nuscenes_lidarseg"},
            "empty_below needs a label set whose last",
        ),
        ({"label_key": "mine"}, "'mine' is not one of occ3d_nuscenes"),
        ({"levels": 2}, "levels must be at least 3"),
        ({"cameras": ["A", "A"]}, "cameras must be a list of different names"),
        ({"extends": "nonsense"}, "unknown model preset 'nonsense': give a YAML file or one of nano"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        model_config(variant(tmp_path, **changes))


def test_files_that_are_no_configuration(tmp_path):
    path = tmp_path / "a.yaml"
    for text in ("- 1\n", ":\n  - [", "\x00"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"a\.yaml"):
            model_config(path)
    with pytest.raises(ConfigError, match="absent.yaml"):
        model_config(tmp_path / "absent.yaml")
    path.write_text("name: lonely\n")
    with pytest.raises(ConfigError, match="the key 'description' is missing"):
        model_config(path)


def test_a_file_cannot_extend_itself(tmp_path):
    path = tmp_path / "loop.yaml"
    path.write_text(f"extends: {path}\n")
    with pytest.raises(ConfigError, match="extends itself"):
        model_config(path)


def test_a_network_of_terabytes_is_refused_before_it_takes_memory(tmp_path):
    config = model_config(variant(tmp_path, embed=4096, heads=8, ffn=8192, encoder={"layers": 64}))
    with pytest.raises(ConfigError, match=r"mine: the network would have \d+\.\d billion parameters"):
        build_network(config)

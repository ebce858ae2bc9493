"""Layers of a scene: laid over each other they are the scene."""

import torch

from mgem_agent.recipes.nano.drawing.caption_encoder import fact_sizes, scene_slots
from mgem_agent.recipes.nano.drawing.scene_layers import SceneLayers
from mgem_agent.recipes.nano.world.backgrounds import background_named
from mgem_agent.recipes.nano.world.scene import sample_scene


def laid(layers: SceneLayers, facts: list[int]) -> torch.Tensor:
    """Lay things over a background, by how much of what covers nothing shows through."""
    picture = layers.layer(facts[0])
    for fact in facts[1:]:
        layer = layers.layer(fact)
        # only red and blue without any cover are further from each other than 2
        shines_through = (layer - layers.nothing).abs().amax(0) < 1e-4
        picture = torch.where(shines_through, picture, layer)
    return picture


def test_there_is_a_layer_for_each_fact(drawn_assets):
    layers = SceneLayers(drawn_assets, 32)
    assert len(layers) == sum(fact_sizes())
    scene = sample_scene(1, 4, kind="posed")
    assert len(layers.facts(scene_slots(scene))) == 1 + len(scene.objects)


def test_layers_over_each_other_are_the_scene(drawn_assets):
    layers = SceneLayers(drawn_assets, 64)
    scenes = [sample_scene(2, number, kind="posed") for number in range(40)]
    flat = [scene for scene in scenes if not background_named(scene.background).has_ground]
    assert {len(scene.objects) for scene in flat} == {1, 2}
    for scene in flat[:6]:
        wrong = layers.picture(scene) - laid(layers, layers.facts(scene_slots(scene)))
        # edges and shadows cover a part of what is behind them
        assert (wrong.abs().amax(0) < 0.02).float().mean() > 0.8


def test_a_thing_covers_a_part_of_its_layer_and_all_else_has_a_colour_of_no_picture(drawn_assets):
    layers = SceneLayers(drawn_assets, 64)
    alone, left, right = (layers.layer(layers.facts(slots)[1]) for slots in pictured())
    nothing = layers.nothing
    assert nothing[0].min() > 1 and nothing[2].max() < -1
    for layer in (alone, left, right):
        covered = ~(layer == nothing).all(0)
        assert 0.05 < covered.float().mean() < 0.6
    assert (left[:, :, 36:] == nothing[:, :, 36:]).all()
    assert (right[:, :, :28] == nothing[:, :, :28]).all()
    assert layers.layer(0).abs().max() <= 1


def pictured() -> list[tuple[int, ...]]:
    none = fact_sizes()
    return [tuple(3 if kind == place else (0 if kind == 0 else none[kind]) for kind in range(4)) for place in (1, 2, 3)]


def test_things_throw_shadows_where_there_is_a_ground_alone(drawn_assets):
    layers = SceneLayers(drawn_assets, 64)
    scenes = {
        background_named(s.background).has_ground: s for s in (sample_scene(2, n, kind="posed") for n in range(40))
    }
    for has_ground, scene in scenes.items():
        covered = torch.stack([layers.layer(fact) for fact in layers.facts(scene_slots(scene))[1:]])
        background = layers.layer(layers.facts(scene_slots(scene))[0])
        red = (covered[:, 0] - layers.nothing[0]).abs().amax(0)
        is_shadow = (red > 0.1) & (red < 0.9)  # it covers a little
        darker = (background - layers.picture(scene)).mean(0)[is_shadow].mean()
        assert (darker > 0.05) == has_ground


def test_a_layer_is_drawn_once(drawn_assets):
    layers = SceneLayers(drawn_assets, 32)
    assert layers.layer(5) is layers.layer(5)

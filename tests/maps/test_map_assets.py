"""Every script and stylesheet comes from this server, and each of them is there."""

from __future__ import annotations

import folium
import folium.plugins
import pytest
from branca.element import Figure

from maps import assets


def _figure(*children: object) -> tuple[Figure, folium.Map]:
    figure, map_ = Figure(), folium.Map(location=[29.5, 106.5], tiles=None)
    figure.add_child(map_)
    for child in children:
        map_.add_child(child)
    return figure, map_


def test_every_static_file_exists_after_npm_ci():
    assert assets.missing_files() == []


def test_every_own_script_and_style_on_disk_is_served():
    served = {path for path in assets.static_files().values() if path.parent.name == "yutu"}
    assert served == set((assets.ASSETS_DIR / "yutu").iterdir())


def test_a_localised_map_names_only_own_addresses():
    figure, map_ = _figure()
    assets.localise(figure)
    page = figure.render()
    assert "http://" not in page
    assert "https://" not in page
    assert map_.default_js == [("leaflet", "/static/leaflet-1.9.4/leaflet.js")]
    assert map_.default_css == [("leaflet_css", "/static/leaflet-1.9.4/leaflet.css")]


def test_localising_leaves_the_class_as_it_was():
    before = (list(folium.Map.default_js), list(folium.Map.default_css))
    figure, _ = _figure()
    assets.localise(figure)
    assert (folium.Map.default_js, folium.Map.default_css) == before


def test_an_unknown_asset_deep_in_the_figure_raises_and_names_it():
    group = folium.FeatureGroup()
    group.add_child(folium.plugins.MarkerCluster())
    figure, _ = _figure(group)
    with pytest.raises(assets.UnknownAsset, match="markercluster"):
        assets.localise(figure)


def test_an_asset_the_map_itself_does_without_is_still_refused_for_others():
    class Needy(folium.elements.JSCSSMixin):
        default_js = (("jquery", "https://example.invalid/jquery.js"),)

    figure, _ = _figure(Needy())
    with pytest.raises(assets.UnknownAsset, match="jquery"):
        assets.localise(figure)


def test_a_link_an_element_adds_while_rendering_is_refused():
    figure, _ = _figure(folium.plugins.MarkerCluster())
    figure.render()
    with pytest.raises(assets.UnknownAsset):
        assets.refuse_foreign_links(figure)

"""Vector files of every accepted kind, and files that pretend to be one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from data.readers import VECTOR_DRIVERS  # first: GDAL is locked down before pyogrio is imported

# isort: split
import geopandas
import pandas as pd
import pyogrio
import pytest
import shapely
from shapely import LineString, MultiPolygon, Point, box

from data.readers.boundaries import default_divisions
from data.readers.divisions import read_divisions_file
from data.readers.vector import read_vector, sniff
from geo.crs import frame_to_wgs84, from_wgs84, geometry_from_wgs84
from geo.errors import CrsError, InvalidInput, TooLarge
from tests.geometries import BOWTIE, HOLED, MULTIPART

ROOT = Path(__file__).resolve().parents[2]
PLACE = (106.55, 29.56)
KML = """<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>
<Folder><name>站点</name><Placemark><name>渝中</name><Point><coordinates>106.55,29.56,244</coordinates></Point></Placemark></Folder>
<Folder><name>更多</name><Placemark><name>万州</name><Point><coordinates>108.4,30.7</coordinates></Point></Placemark></Folder>
</Document></kml>"""
GPX = """<?xml version="1.0"?><gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1">
<wpt lat="29.56" lon="106.55"><name>渝中</name></wpt>
<trk><name>t</name><trkseg><trkpt lat="29.5" lon="106.5"/><trkpt lat="29.6" lon="106.6"/></trkseg></trk></gpx>"""
GML = """<?xml version="1.0"?><ogr:FeatureCollection xmlns:ogr="http://ogr.maptools.org/" xmlns:gml="http://www.opengis.net/gml">
<gml:featureMember><ogr:site fid="s.0"><ogr:geometryProperty><gml:Point srsName="EPSG:4326"><gml:coordinates>106.55,29.56</gml:coordinates></gml:Point></ogr:geometryProperty><ogr:name>渝中</ogr:name></ogr:site></gml:featureMember></ogr:FeatureCollection>"""


def sites(crs="EPSG:4326"):
    return geopandas.GeoDataFrame(
        {"name": ["渝中", "万州"]}, geometry=[Point(PLACE), Point(108.4, 30.7)], crs=crs
    )


def geojson(path, *coordinates, **members):
    features = [
        {
            "type": "Feature",
            "properties": {"name": "渝中"},
            "geometry": {"type": "Point", "coordinates": list(c)},
        }
        for c in coordinates
    ]
    path.write_text(
        json.dumps({"type": "FeatureCollection", "features": features, **members}), encoding="utf-8"
    )
    return path


def shapefile(folder, frame, encoding="UTF-8", drop=()):
    folder.mkdir()
    pyogrio.write_dataframe(frame, folder / "站点.shp", driver="ESRI Shapefile", encoding=encoding)
    for suffix in drop:
        (folder / f"站点{suffix}").unlink()
    return folder / "站点.shp"


def zipped(path, folder, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return path


def write_each(kind, folder):
    path = folder / "upload"
    if kind == "GeoJSON":
        pyogrio.write_dataframe(sites(), path, driver="GeoJSON")
    elif kind == "GeoPackage":
        pyogrio.write_dataframe(sites(), folder / "a.gpkg", driver="GPKG", layer="sites")
        path = (folder / "a.gpkg").rename(path)
    elif kind == "FlatGeobuf":
        pyogrio.write_dataframe(sites(), folder / "a.fgb", driver="FlatGeobuf", SPATIAL_INDEX="NO")
        path = (folder / "a.fgb").rename(path)
    elif kind == "Parquet":
        sites().to_parquet(path)
    elif kind == "Shapefile":
        path = shapefile(folder / "shp", sites())
    elif kind == "zipped Shapefile":
        zipped(path, shapefile(folder / "shp", sites()).parent, prefix="数据/")
    elif kind == "KMZ":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("doc.kml", KML)
            archive.writestr("images/a.png", b"x")
    else:
        path.write_text({"KML": KML, "GPX": GPX, "GML": GML}[kind], encoding="utf-8")
    return path


KINDS = [
    "GeoJSON",
    "GeoPackage",
    "FlatGeobuf",
    "Parquet",
    "Shapefile",
    "zipped Shapefile",
    "KML",
    "KMZ",
    "GPX",
    "GML",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_known_by_its_content_and_read(kind, tmp_path):
    path = write_each(kind, tmp_path)
    assert sniff(path) == kind
    frame = frame_to_wgs84(read_vector(path))
    first = frame.geometry.iloc[0]
    assert (first.x, first.y) == pytest.approx(PLACE, abs=1e-9)
    names = frame["Name"] if "Name" in frame else frame["name"]
    assert names.iloc[0] == "渝中"
    assert read_vector(path).attrs == {"crs": "WGS84", "format": kind}


@pytest.mark.parametrize("kind", KINDS)
def test_reading_writes_nothing_beside_the_file(kind, tmp_path):
    path = write_each(kind, tmp_path)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    read_vector(path)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("KML", "GPX", "GML", "GeoJSON")])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_file_cut_off_is_an_error_of_the_input(kind, part, tmp_path):
    path = write_each(kind, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InvalidInput):
        read_vector(path)


@pytest.mark.parametrize("kind", ["KML", "GPX", "GML", "GeoJSON"])
def test_a_text_cut_off_is_an_error_of_the_input(kind, tmp_path):
    path = write_each(kind, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidInput):
        read_vector(path)


VRT = '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("vrt.geojson", VRT.encode()), ("vrt.kml", b"\xef\xbb\xbf\n" + VRT.encode()),
        ("gdalg.json", b'{"type":"gdal_streamed_alg","command_line":"gdal vector read /etc/passwd"}'),
        ("esri.json", b'{"geometryType":"esriGeometryPoint","features":[],"fields":[]}'),
        ("topo.json", b'{"type":"Topology","objects":{},"arcs":[]}'), ("object.json", b"{}"),
        ("empty.geojson", b""), ("blank.geojson", b" \n\t"), ("table.csv", b"id,lon,lat\na,106.5,29.5\n"),
        ("passwd", b"root:x:0:0:root:/root:/bin/sh\n"), ("picture.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 100),
        ("bomb.kml", b'<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY a "aaaa">]><kml>&a;</kml>'),
        ("xxe.gpx", b'<!DOCTYPE gpx [<!ENTITY x SYSTEM "file:///etc/passwd">]><gpx>&x;</gpx>'),
        ("page.html", b"<html><body/></html>"), ("svg.gml", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("broken.kml", b"<kml"), ("sqlite.gpkg", b"SQLite format 3\0" + b"\0" * 200),
        ("shell.shp", b"\x00\x00\x27\x0a" + b"\0" * 96), ("flat.fgb", b"fgb\x03fgb\x00" + b"\0" * 10),
        ("some.zip", b"PK\x03\x04 nothing"), ("plain.parquet", b"PAR1 nothing PAR1"),
        ("no-feature.geojson", b'{"type":"FeatureCollection","features":[]}'),
        ("url.geojson", b"http://127.0.0.1:9/x.geojson"),
    ],
)  # fmt: skip
def test_what_is_no_vector_file_is_refused_whatever_it_is_called(name, data, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidInput) as caught:
        read_vector(path)
    assert "root:" not in str(caught.value)
    assert "yutu-vector" not in str(caught.value)


def test_a_wkt_of_a_vrt_inside_an_archive_is_refused(tmp_path):
    path = tmp_path / "a.kmz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("doc.kml", VRT)
    with pytest.raises(InvalidInput):
        read_vector(path)


def test_gdal_has_no_driver_but_those_of_the_accepted_kinds():
    assert set(pyogrio.list_drivers()) <= VECTOR_DRIVERS
    assert "OGR_VRT" in os.environ["OGR_SKIP"]


def test_the_reader_refuses_to_load_beside_an_unlocked_gdal():
    code = "import os, pyogrio; import data.readers.vector"
    clean = {k: v for k, v in os.environ.items() if k not in ("OGR_SKIP", "GDAL_SKIP")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "before data.readers could lock it down" in done.stderr


def test_an_archive_of_another_kind_or_of_two_shapefiles_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(InvalidInput, match="neither"):
        read_vector(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.shp", "x")
        archive.writestr("b.shp", "x")
    with pytest.raises(InvalidInput, match="several"):
        read_vector(path)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("data.readers.vector_kind.MAX_UNPACKED_BYTES", 100)
    with pytest.raises(TooLarge):
        read_vector(write_each("KMZ", tmp_path))


def test_a_path_that_climbs_out_of_the_archive_is_not_followed(tmp_path):
    source = shapefile(tmp_path / "shp", sites())
    path = zipped(tmp_path / "a.zip", source.parent, prefix="../../")
    assert len(read_vector(path)) == 2
    assert not (tmp_path.parent / "站点.shp").exists()


# --- coordinate systems ----------------------------------------------------------------------------


def test_a_shapefile_without_prj_needs_a_declaration(tmp_path):
    path = shapefile(tmp_path / "a", sites(), drop=[".prj"])
    with pytest.raises(CrsError, match="declare"):
        read_vector(path)
    assert read_vector(path, crs="GCJ-02").attrs["crs"] == "GCJ-02"
    assert read_vector(path, crs="GCJ-02").crs is None
    assert read_vector(path, crs="WGS84").crs.to_epsg() == 4326


def test_a_gauss_krueger_shapefile_says_so_itself(tmp_path):
    path = shapefile(tmp_path / "a", sites().to_crs("EPSG:4545"))
    frame = read_vector(path)
    assert frame.attrs["crs"] == "EPSG:4545"
    moved = frame_to_wgs84(frame, frame.attrs["crs"]).geometry.iloc[0]
    assert (moved.x, moved.y) == pytest.approx(PLACE, abs=1e-8)
    with pytest.raises(CrsError, match="EPSG:4545 but WGS84"):
        read_vector(path, crs="WGS84")


def test_a_geojson_in_gcj02_is_placed_where_it_belongs(tmp_path):
    path = geojson(tmp_path / "a", from_wgs84(*PLACE, "GCJ-02"))
    frame = read_vector(path, crs="GCJ-02")
    assert frame.crs is None
    moved = frame_to_wgs84(frame, frame.attrs["crs"]).geometry.iloc[0]
    assert (moved.x, moved.y) == pytest.approx(PLACE, abs=1e-8)


def test_a_geojson_without_a_crs_member_may_be_declared_projected(tmp_path):
    path = geojson(tmp_path / "a", from_wgs84(*PLACE, "EPSG:4545"))
    frame = read_vector(path, crs="EPSG:4545")
    moved = frame_to_wgs84(frame, frame.attrs["crs"]).geometry.iloc[0]
    assert (moved.x, moved.y) == pytest.approx(PLACE, abs=1e-8)


def test_a_geojson_with_a_crs_member_is_not_overruled(tmp_path):
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4544"}}
    path = geojson(tmp_path / "a", from_wgs84(*PLACE, "EPSG:4544"), crs=crs)
    assert read_vector(path).attrs["crs"] == "EPSG:4544"
    with pytest.raises(CrsError):
        read_vector(path, crs="EPSG:4545")


@pytest.mark.parametrize("crs", ["EPSG:4610", "EPSG:2381"])
def test_a_file_in_an_old_datum_is_refused(crs, tmp_path):
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(sites().to_crs(crs), path, driver="GPKG")
    with pytest.raises(CrsError, match="accepted"):
        read_vector(path)


# --- layers, limits, encodings ---------------------------------------------------------------------


def test_a_geopackage_of_several_layers_needs_a_name(tmp_path):
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(sites(), path, layer="sites", driver="GPKG")
    pyogrio.write_dataframe(sites().head(1), path, layer="more", driver="GPKG")
    with pytest.raises(InvalidInput, match="'sites', 'more'"):
        read_vector(path)
    assert len(read_vector(path, "more")) == 1
    with pytest.raises(InvalidInput, match="no layer 'x'"):
        read_vector(path, "x")


def test_a_table_without_geometry_in_a_geopackage_is_not_a_layer(tmp_path):
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(sites(), path, layer="sites", driver="GPKG")
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), path, layer="notes", driver="GPKG")
    assert len(read_vector(path)) == 2
    with pytest.raises(InvalidInput, match="no geometries"):
        read_vector(path, "notes")


def test_folders_of_a_kml_are_read_one_after_another(tmp_path):
    frame = read_vector(write_each("KML", tmp_path))
    assert frame["Name"].tolist() == ["渝中", "万州"]
    assert frame["layer"].tolist() == ["站点", "更多"]


def test_waypoints_and_tracks_of_a_gpx_are_read(tmp_path):
    frame = read_vector(write_each("GPX", tmp_path))
    assert frame["layer"].tolist() == ["waypoints", "tracks"]
    assert len(read_vector(write_each("GPX", tmp_path), "track_points")) == 2


def test_the_cap_on_features_holds(tmp_path):
    for kind in ("GeoJSON", "Parquet"):
        path = write_each(kind, tmp_path)
        assert len(read_vector(path, max_features=2)) == 2
        with pytest.raises(TooLarge):
            read_vector(path, max_features=1)


@pytest.mark.parametrize(
    ("encoding", "drop"),
    [("UTF-8", []), ("UTF-8", [".cpg"]), ("GB18030", []), ("GB18030", [".cpg"])],
)
def test_chinese_attributes_of_a_shapefile_are_readable(encoding, drop, tmp_path):
    path = shapefile(
        tmp_path / "a",
        sites(),
        encoding=encoding,
        drop=[d for d in drop if (tmp_path / f"a/站点{d}").exists()],
    )
    for suffix in drop:
        path.with_suffix(suffix).unlink(missing_ok=True)
    assert read_vector(path)["name"].tolist() == ["渝中", "万州"]


def test_a_parquet_without_geometry_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(InvalidInput, match="no geometry"):
        read_vector(path)


def test_odd_geometries_pass_through_unchanged_for_the_contract_to_judge(tmp_path):
    shapes = [None, HOLED, MULTIPART, BOWTIE, Point(*PLACE, 244.0), LineString([(0, 0), (1, 1)])]
    frame = geopandas.GeoDataFrame({"a": range(6)}, geometry=shapes, crs="EPSG:4326")
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(frame, path, driver="GPKG", geometry_type="Unknown")
    read = read_vector(path).geometry.tolist()
    assert read[0] is None
    assert all(shapely.equals_exact(a, b) for a, b in zip(read[1:], shapes[1:], strict=True))
    assert read[4].has_z


def test_a_byte_order_mark_before_geojson_is_no_obstacle(tmp_path):
    path = geojson(tmp_path / "a", PLACE)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_vector(path)) == 1


# --- divisions of the operator's own ---------------------------------------------------------------


@pytest.fixture(scope="module")
def current():
    return default_divisions()[1].frame


def write_divisions(path, frame):
    pyogrio.write_dataframe(frame, path, driver="GPKG")
    return path


def test_our_own_divisions_come_back_as_they_are(current, tmp_path):
    path = write_divisions(tmp_path / "a.gpkg", current)
    read = read_divisions_file(path)
    assert read["code"].tolist() == current["adcode"].tolist()
    assert read["name"].tolist() == current["name"].tolist()
    assert read["name_en"].tolist() == current["name_en"].tolist()
    assert read["population"].sum() == current["population"].sum()
    assert read["population"].isna().sum() == 2
    assert set(read["kind"]) == {"district"}
    assert read["area_m2"].tolist() == pytest.approx(current["area_m2"].tolist(), rel=1e-12)
    assert all(
        shapely.equals_exact(a, b) for a, b in zip(read.geometry, current.geometry, strict=True)
    )


@pytest.mark.parametrize("crs", ["GCJ-02", "BD-09", "EPSG:4545"])
def test_divisions_in_another_system_are_still_a_coverage_and_a_metre_is_not_lost(
    current, crs, tmp_path
):
    moved = geometry_from_wgs84(current.geometry.to_numpy(), crs)
    label = crs if crs.startswith("EPSG") else "EPSG:4326"
    path = write_divisions(
        tmp_path / "a.gpkg",
        geopandas.GeoDataFrame(current[["adcode", "name"]], geometry=moved, crs=label),
    )
    read = read_divisions_file(path, crs=crs)
    assert shapely.coverage_is_valid(read.geometry.to_numpy())
    assert shapely.hausdorff_distance(read.geometry[3], current.geometry[3]) < 1e-8


SQUARES = [box(106, 29, 107, 30), box(107, 29, 108, 30)]


def divisions(path, geometry=SQUARES, **columns):
    return write_divisions(
        path / "a.gpkg", geopandas.GeoDataFrame(columns, geometry=list(geometry), crs="EPSG:4326")
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("XZQDM", "XZQMC"),
        ("行政区划代码", "区县名称"),
        ("gb", "name"),
        ("AdCode", "NAME"),
        ("代码", "名称"),
    ],
)
def test_customary_columns_are_found(code, name, tmp_path):
    read = read_divisions_file(
        divisions(tmp_path, **{name: ["甲区", "乙区"], code: ["156500102", "156500101"]})
    )
    assert read["code"].tolist() == ["500101", "500102"]
    assert read["name"].tolist() == ["乙区", "甲区"]
    assert isinstance(read.geometry[0], MultiPolygon)


def test_a_numeric_code_column_is_a_code(tmp_path):
    assert read_divisions_file(divisions(tmp_path, adcode=[500101.0, 500102.0], name=["a", "b"]))[
        "code"
    ].tolist() == ["500101", "500102"]


def test_an_explicit_mapping_wins(tmp_path):
    path = divisions(
        tmp_path, adcode=["1", "2"], name=["x", "y"], c2=["500101", "500102"], n2=["甲", "乙"]
    )
    read = read_divisions_file(path, {"code": "c2", "name": "n2"})
    assert read["code"].tolist() == ["500101", "500102"]
    assert read["name"].tolist() == ["甲", "乙"]


def test_columns_that_cannot_be_found_are_all_named(tmp_path):
    with pytest.raises(InvalidInput) as caught:
        read_divisions_file(divisions(tmp_path, a=[1, 2]), {"name": "zz", "colour": "a"})
    assert {f.field for f in caught.value.faults} == {"code", "name", "colour"}


def test_every_faulty_row_is_reported_and_nothing_is_dissolved(tmp_path):
    path = divisions(
        tmp_path, [SQUARES[0], SQUARES[1], Point(1, 1), None],
        adcode=["500101", "500101", "5001", None], name=["a", " ", "c", "d"], population=["12", "-3", None, "x"],
    )  # fmt: skip
    with pytest.raises(InvalidInput) as caught:
        read_divisions_file(path)
    assert {(f.row, f.field) for f in caught.value.faults} == {
        (2, "code"), (2, "name"), (2, "population"), (3, "adcode"), (3, "geometry"),
        (4, "code"), (4, "geometry"), (4, "population"),
    }  # fmt: skip


def test_districts_that_overlap_are_refused_with_their_rows(tmp_path):
    path = divisions(
        tmp_path,
        [SQUARES[1], box(106, 29, 107.01, 30)],
        adcode=["500102", "500101"],
        name=["b", "a"],
    )
    with pytest.raises(InvalidInput) as caught:
        read_divisions_file(path)
    assert [f.row for f in caught.value.faults] == [2]
    assert "500101 overlaps 500102" in caught.value.faults[0].reason


def test_zones_may_lie_over_districts_and_have_codes_of_their_own(tmp_path):
    path = divisions(
        tmp_path, [*SQUARES, box(106.9, 29.4, 107.1, 29.6)],
        code=["500101", "500102", "Z-CQGX"], name=["a", "b", "高新区"], 类型=["区县", "district", "功能区"],
    )  # fmt: skip
    assert read_divisions_file(path)["kind"].tolist() == ["district", "district", "functional_zone"]
    zones = divisions(tmp_path, SQUARES, code=["Z-A", "Z-B"], name=["a", "b"])
    assert (
        read_divisions_file(zones, kind="functional_zone")["kind"].tolist()
        == ["functional_zone"] * 2
    )


def test_zones_that_share_ground_are_refused_with_the_row_in_the_file(tmp_path):
    path = divisions(
        tmp_path, [SQUARES[0], box(106.1, 29.1, 106.3, 29.3), box(106.2, 29.1, 106.4, 29.3)],
        code=["500101", "Z-A", "Z-B"], name=["a", "b", "c"], kind=["district", "zone", "functional_zone"],
    )  # fmt: skip
    with pytest.raises(InvalidInput) as caught:
        read_divisions_file(path)
    assert [f.row for f in caught.value.faults] == [3]


def test_a_kind_that_is_neither_is_a_fault(tmp_path):
    with pytest.raises(InvalidInput, match="neither district nor functional_zone"):
        read_divisions_file(
            divisions(
                tmp_path, code=["500101", "500102"], name=["a", "b"], kind=["district", "city"]
            )
        )
    with pytest.raises(InvalidInput, match="expected is district or functional_zone"):
        read_divisions_file(
            divisions(tmp_path, code=["500101", "500102"], name=["a", "b"]), kind="city"
        )

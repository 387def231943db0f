// Pasted text → one geometry, and the system the text says it is in. Numbers are left as they are:
// the server alone reads them.

const AREAS = new Set(["Polygon", "MultiPolygon"]);
const GEOMETRIES = new Set(["Point", "LineString", "MultiLineString", "Polygon", "MultiPolygon"]);

// {geometry, stated}; throws an Error in words.
export function readGeojson(text, say) {
  let value;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    throw new Error(say("bad_json", { why: error.message }));
  }
  const geometry = geometryOf(value);
  if (!geometry) throw new Error(say("bad_geojson"));
  return { geometry, stated: statedSystem(value) };
}

function geometryOf(value) {
  if (value === null || typeof value !== "object") return null;
  if (value.type === "Feature") return geometryOf(value.geometry);
  if (value.type === "FeatureCollection") return joined((value.features ?? []).map(geometryOf));
  if (value.type === "GeometryCollection") return joined((value.geometries ?? []).map(geometryOf));
  if (!GEOMETRIES.has(value.type) || !Array.isArray(value.coordinates)) return null;
  return { type: value.type, coordinates: value.coordinates };
}

// One geometry as it is; several areas as one of several parts.
function joined(geometries) {
  if (geometries.length === 1) return geometries[0];
  if (!geometries.length || !geometries.every((one) => one && AREAS.has(one.type))) return null;
  return { type: "MultiPolygon", coordinates: geometries.flatMap((one) => (one.type === "Polygon" ? [one.coordinates] : one.coordinates)) };
}

// The `crs` member of before RFC 7946, which our own exports write too: "EPSG:4546", or null.
function statedSystem(value) {
  const name = typeof value.crs === "string" ? value.crs : value.crs?.properties?.name;
  if (typeof name !== "string") return null;
  if (/CRS:?:?84$|EPSG:{1,2}4326$/i.test(name)) return "WGS84";
  if (/EPSG:{1,2}4490$/i.test(name)) return "CGCS2000";
  const code = /EPSG:{1,2}(\d{4,6})$/i.exec(name);
  return code ? `EPSG:${code[1]}` : name;
}

// EPSG:4326 and WGS84 are one system, EPSG:4490 and CGCS2000 another.
export function sameSystem(one, other) {
  const plain = (name) => statedSystem({ crs: name }) ?? name;
  return plain(one) === plain(other);
}

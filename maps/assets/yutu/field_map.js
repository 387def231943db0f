// The districts as a map without any basemap, for pointing at a place; works without a network.

// Further out than this a finger covers more than a district: a tap there brings nearer instead.
const ZOOM_TO_POINT = 10;

export class PlaceMap {
  constructor(node, districts, picked, nearer) {
    this.districts = districts;
    const L = globalThis.L;
    this.map = L.map(node, { zoomControl: true, attributionControl: false, maxZoom: 18, minZoom: 6, zoomSnap: 0.25 });
    this.shapes = L.geoJSON(districts, {
      style: { color: "#5f7391", weight: 1.5, fillColor: "#e9eef5", fillOpacity: 1 },
      interactive: false,
      onEachFeature: (feature, layer) => {
        const label = document.createElement("span");
        label.textContent = feature.properties.name;
        layer.bindTooltip(label, { permanent: true, direction: "center", className: "place-name" });
      },
    }).addTo(this.map);
    this.map.fitBounds(this.shapes.getBounds(), { animate: false });
    this.map.on("zoomend", () => this.#label());
    this.#label();
    this.map.on("click", (event) => {
      const at = event.latlng.wrap();
      if (this.map.getZoom() < ZOOM_TO_POINT) {
        this.map.setView(at, ZOOM_TO_POINT, { animate: false });
        nearer();
        return;
      }
      picked(Number(at.lng.toFixed(6)), Number(at.lat.toFixed(6)), this.#accuracy(at));
    });
    this.spot = L.circleMarker([0, 0], { radius: 11, color: "#fff", weight: 3, fillColor: "#c62828", fillOpacity: 1 });
  }

  // Names only where there is room for them.
  #label() {
    this.map.getContainer().classList.toggle("far", this.map.getZoom() < 9);
  }

  // A finger covers some twelve pixels.
  #accuracy(at) {
    const metres = (40075016.686 * Math.cos((at.lat * Math.PI) / 180)) / 2 ** (this.map.getZoom() + 8);
    return Math.max(1, Math.round(metres * 12));
  }

  hide() {
    this.map.invalidateSize();
    this.spot.remove();
  }

  show(lon, lat, near = true) {
    if (!Number.isFinite(lon) || !Number.isFinite(lat) || Math.abs(lat) > 85) {
      this.hide();
      return;
    }
    this.map.invalidateSize();
    this.spot.setLatLng([lat, lon]).addTo(this.map);
    if (near) this.map.setView([lat, lon], Math.max(this.map.getZoom(), 12), { animate: false });
  }
}

// The district a WGS-84 position lies in by the simplified borders; the server decides.
export function districtAt(districts, lon, lat) {
  return districts?.features.find(({ geometry }) => {
    const parts = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
    return parts.some((rings) => rings.filter((ring) => within(ring, lon, lat)).length % 2 === 1);
  });
}

function within(ring, lon, lat) {
  let inside = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) {
    const [x, y] = ring[i];
    const [u, v] = ring[j];
    if (y > lat !== v > lat && lon < ((u - x) * (lat - y)) / (v - y) + x) inside = !inside;
  }
  return inside;
}

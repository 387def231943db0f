// The small districts in the middle once more and larger, in a corner of the map that the city leaves
// free, as long as the whole city is in view. Its frame on the map shows what it enlarges.

import { Choropleth } from "./choropleth.js";
import { el, levelBadge } from "./dom.js";

const MARGIN_PX = 6;
const PLAIN_ROOM_PX = 17; // where even the smallest district has that much room no inset is needed

export class Inset {
  // `centre`: { bounds, adcodes }; `onSelect` gets the code of a district that was clicked.
  constructor({ root, main, centre, style, say, onSelect }) {
    Object.assign(this, { root, main, centre, say });
    this.shown = false;
    const frame = el("div", { cls: "inset-map" });
    root.replaceChildren(el("h3", { text: say("centre") }), frame);
    root.hidden = false; // has to have a size before a map is made in it
    this.map = new L.Map(frame, {
      attributionControl: false, zoomControl: false, dragging: false, scrollWheelZoom: false, doubleClickZoom: false,
      boxZoom: false, keyboard: false, touchZoom: false, tap: false, zoomSnap: 0, zoomAnimation: false, fadeAnimation: false,
    });
    this.map.createPane("labels").style.zIndex = "450";
    this.map.getPane("labels").style.pointerEvents = "none";
    this.fit();
    const near = main.layer.toGeoJSON().features.filter((feature) => this.map.getBounds().intersects(L.geoJSON(feature).getBounds()));
    const layer = L.geoJSON({ type: "FeatureCollection", features: near }, { smoothFactor: 0 }).addTo(this.map);
    this.choropleth = new Choropleth({ map: this.map, layer, style, say, onSelect, inset: true });
    this.choropleth.labels.away = new Set(near.map((f) => f.properties.adcode).filter((code) => !centre.adcodes.has(code)));
    this.incidents = L.layerGroup().addTo(this.map);
    this.frame = L.rectangle(centre.bounds, { className: "inset-frame", color: "#35435a", weight: 1, dashArray: "3 3", fill: false, interactive: false });
    main.map.on("zoomend moveend resize", () => this.look());
    this.look();
  }

  fit() {
    this.map.invalidateSize({ animate: false });
    this.map.fitBounds(this.centre.bounds, { padding: [MARGIN_PX, MARGIN_PX], animate: false });
  }

  // Shown while the whole city is in view, is small, and leaves this corner free.
  look() {
    this.root.hidden = false;
    const shown = this.wanted();
    this.root.hidden = !shown;
    if (shown) this.fit();
    if (shown === this.shown) return;
    this.shown = shown;
    if (shown) this.frame.addTo(this.main.map);
    else this.frame.remove();
    this.main.labels.away = shown ? this.centre.adcodes : new Set();
    this.main.labels.layout();
    this.onChange?.();
  }

  wanted() {
    const { map, layer } = this.main;
    if (!map.getBounds().contains(layer.getBounds())) return false;
    const rooms = [...this.centre.adcodes].map((code) => this.main.labels.room(code));
    if (Math.min(...rooms) >= PLAIN_ROOM_PX) return false;
    const mine = this.root.getBoundingClientRect();
    const ground = map.getContainer().getBoundingClientRect();
    const corner = L.point(mine.left - ground.left, mine.top - ground.top);
    const box = L.bounds(corner, corner.add([mine.width, mine.height]));
    return !layer.getLayers().some((path) => corners(path.getLatLngs()).some((at) => box.contains(map.latLngToContainerPoint(at))));
  }

  // Whether a point of the map is told here instead.
  tells(at) {
    return this.shown && this.centre.bounds.contains(at);
  }

  paint(situation, plan, measure, selected) {
    this.choropleth.select(selected);
    this.choropleth.paint(situation, plan, measure);
  }

  // `points`: { at, level, open } of incidents; the gravest on top.
  mark(points) {
    this.incidents.clearLayers();
    for (const { at, level, open } of points) {
      if (!this.map.getBounds().contains(at)) continue;
      const icon = L.divIcon({ className: "inset-incident", iconSize: [18, 18], html: levelBadge(level, this.say, "round", open) });
      L.marker(at, { icon, interactive: false, keyboard: false, zIndexOffset: (5 - (level ?? 5)) * 1000 }).addTo(this.incidents);
    }
    this.choropleth.labels.obstacles = () => points.map(({ at }) => ({ at, radius: 10 }));
    this.choropleth.labels.layout();
  }
}

function corners(rings) {
  return rings[0] instanceof L.LatLng ? rings : rings.flatMap(corners);
}

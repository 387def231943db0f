// The region someone chooses: picked districts, a drawn outline, or coordinates as text.
// `body` is what the API is asked: {adcodes} or {geometry, crs, radius_m?, buffer_m?}.

import { readGeojson, sameSystem } from "./planner_geojson.js";

const SHAPE = { color: "#0d1728", weight: 2.5, fillColor: "#2256a5", fillOpacity: 0.14, dashArray: null };
const PICKED = { color: "#0d1728", weight: 3, fillColor: "#2256a5", fillOpacity: 0.16, interactive: false };
const FILE_BYTES_MAX = 4 * 2 ** 20;
const BUFFER_M = 1000;
const COARSE = window.matchMedia("(pointer: coarse)");
L.Polyline._flat = L.LineUtil.isFlat; // leaflet-draw asks for it by its old name
const DRAWN = new Set(["polygon", "rectangle", "circle", "line"]);

export class Outline {
  constructor({ map, featureOf, say, faults, onChange }) {
    Object.assign(this, { map, featureOf, say, faults, onChange });
    this.body = null;
    this.kind = null;
    this.tool = "districts";
    this.handler = null;
    this.editing = null;
    this.form = document.getElementById("region-form");
    map.createPane("region").style.zIndex = "440"; // over the districts, under their names
    this.shown = L.layerGroup().addTo(map);
    this.#words();
    this.#wire();
    this.choose("districts");
  }

  get adcodes() {
    return this.#boxes().filter((box) => box.checked).map((box) => box.value);
  }

  // Whether the map's districts are there to be picked just now.
  get picking() {
    return this.tool === "districts" && !this.editing;
  }

  choose(tool) {
    this.stop();
    this.tool = tool;
    for (const button of this.form.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    for (const part of this.form.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(tool);
    document.getElementById("tool-hint").textContent = this.say(`hint_${tool}`);
    document.getElementById("ask").hidden = tool === "districts";
    if (tool === "line" && !this.#input("buffer_m").value) this.#input("buffer_m").value = String(BUFFER_M);
    this.faults.clear();
  }

  // Begins to draw with a tool of the map.
  draw(tool) {
    this.choose(tool);
    const shape = { ...SHAPE, pane: "region" };
    const corner = cornerIcon();
    const corners = { icon: corner, touchIcon: corner };
    const kinds = {
      polygon: () => new L.Draw.Polygon(this.map, { ...corners, allowIntersection: false, drawError: { color: "#b3261e", message: this.say("draw_crossing") }, shapeOptions: shape }),
      rectangle: () => new L.Draw.Rectangle(this.map, { showArea: false, shapeOptions: shape }),
      circle: () => new L.Draw.Circle(this.map, { shapeOptions: shape }),
      line: () => new L.Draw.Polyline(this.map, { ...corners, shapeOptions: { ...shape, fill: false } }),
    };
    this.handler = kinds[tool]();
    this.handler.enable();
    this.#bar(tool === "polygon" || tool === "line", this.say(`hint_${tool}`));
    this.map.getContainer().focus({ preventScroll: true });
  }

  toggle(adcode) {
    const box = this.#boxes().find((one) => one.value === adcode);
    if (!box) return;
    box.checked = !box.checked;
    this.#picked();
  }

  stop() {
    this.handler?.disable();
    this.handler = null;
    if (this.editing) this.#endEditing(false);
    this.#bar(false, "");
  }

  clear() {
    this.stop();
    for (const box of this.#boxes()) box.checked = false;
    this.faults.clear();
    this.#set(null, null);
  }

  // Takes a region as the API was asked for it, from what the page remembers.
  restore(body, tool) {
    for (const box of this.#boxes()) box.checked = (body.adcodes ?? []).includes(box.value);
    for (const name of ["radius_m", "buffer_m"]) if (body[name]) this.#input(name).value = String(body[name]);
    this.choose(this.form.querySelector(`[data-tool="${CSS.escape(tool)}"]`) ? tool : "districts");
    if (tool === "geojson") this.#input("geojson").value = JSON.stringify(body.geometry);
    if (tool === "geojson") this.#system(body.crs);
    this.#set(body, tool);
  }

  // What the server understood, in WGS-84; the drawn shape goes when it comes.
  showOutline(geometry) {
    this.shown.clearLayers();
    if (!geometry) return;
    const layer = L.geoJSON(geometry, { style: SHAPE, pane: "region", interactive: false }).addTo(this.shown);
    const bounds = layer.getBounds();
    // what was drawn is where someone is looking; coordinates may be anywhere
    if (bounds.isValid() && this.kind === "geojson") this.map.fitBounds(bounds, { padding: [60, 60], maxZoom: 12, animate: false });
  }

  // [west, south, east, north] of what is shown, or null.
  bbox() {
    const bounds = L.latLngBounds([]);
    this.shown.eachLayer((layer) => bounds.extend(layer.getBounds()));
    return bounds.isValid() ? [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()].map((one) => Number(one.toFixed(6))) : null;
  }

  describe(nameOf) {
    const { say, body } = this;
    if (!body) return say("no_region");
    if (body.adcodes) return say("region_districts", { n: body.adcodes.length, names: body.adcodes.map(nameOf).join(say("comma")) });
    if (body.radius_m) return say("region_circle", { m: Math.round(body.radius_m) });
    if (body.buffer_m) return say("region_line", { m: Math.round(body.buffer_m) });
    return say("region_polygon");
  }

  #wire() {
    for (const button of this.form.querySelectorAll("[data-tool]")) {
      const { tool } = button.dataset;
      button.addEventListener("click", () => (DRAWN.has(tool) ? this.draw(tool) : this.choose(tool)));
    }
    for (const box of this.#boxes()) box.addEventListener("change", () => this.#picked());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    document.getElementById("clear-region").addEventListener("click", () => this.clear());
    document.getElementById("edit-outline").addEventListener("click", () => this.#edit());
    document.getElementById("draw-cancel").addEventListener("click", () => (this.editing ? this.#endEditing(false) : this.stop()));
    document.getElementById("draw-undo").addEventListener("click", () => this.handler?.deleteLastVertex?.());
    document.getElementById("draw-finish").addEventListener("click", () => (this.editing ? this.#endEditing(true) : this.handler?.completeShape?.()));
    document.getElementById("geojson-file").addEventListener("change", (event) => this.#file(event.target));
    document.getElementById("crs").addEventListener("change", () => this.#epsgShown());
    this.map.on(L.Draw.Event.CREATED, ({ layerType, layer }) => this.#drawn(layerType, layer));
    this.map.on(L.Draw.Event.DRAWSTOP, () => {
      this.handler = null;
      this.#bar(false, "");
    });
  }

  #drawn(layerType, layer) {
    const tool = layerType === "polyline" ? "line" : layerType;
    const { geometry } = layer.toGeoJSON(7);
    const body = { geometry, crs: "WGS84" };
    if (tool === "circle") {
      body.radius_m = Number(layer.getRadius().toFixed(1));
      this.#input("radius_m").value = String(body.radius_m);
    }
    if (tool === "line") body.buffer_m = Number(this.#input("buffer_m").value) || BUFFER_M;
    this.#set(body, tool);
  }

  #picked() {
    this.stop();
    const { adcodes } = this;
    this.#set(adcodes.length ? { adcodes } : null, "districts");
  }

  // “Ask”: the same outline with another width, or coordinates as text.
  #submit() {
    this.faults.clear();
    if (this.tool === "geojson") return this.#typed();
    const fits = this.body?.geometry && this.kind === this.tool;
    if (!fits) return this.handler ? this.handler.completeShape?.() : this.draw(this.tool);
    const body = { ...this.body };
    for (const name of ["radius_m", "buffer_m"]) {
      if (name in body) body[name] = this.#input(name).valueAsNumber;
    }
    return this.#set(body, this.kind);
  }

  #typed() {
    const { say } = this;
    const text = this.#input("geojson").value.trim();
    if (!text) return this.faults.at("geometry", say("no_geojson"));
    const chosen = this.#input("crs").value;
    const crs = chosen === "EPSG" ? `EPSG:${this.#input("epsg").value.trim()}` : chosen;
    if (!crs || crs === "EPSG:") return this.faults.at("crs", say("no_crs"));
    let read;
    try {
      read = readGeojson(text, say);
    } catch (error) {
      return this.faults.at("geometry", error.message);
    }
    if (read.stated && !sameSystem(read.stated, crs)) return this.faults.at("crs", say("crs_stated", { name: read.stated }));
    const body = { geometry: read.geometry, crs };
    const { type } = read.geometry;
    const width = type === "Point" ? "radius_m" : /LineString$/.test(type) ? "buffer_m" : null;
    if (width && this.#input(width).value) body[width] = this.#input(width).valueAsNumber;
    return this.#set(body, "geojson");
  }

  async #file(input) {
    this.faults.clear();
    const [file] = input.files;
    if (!file) return;
    if (file.size > FILE_BYTES_MAX) this.faults.at("geometry", this.say("file_large"));
    else this.#input("geojson").value = await file.text();
    input.value = ""; // the same file may be chosen again once mended
  }

  #edit() {
    const { body } = this;
    const layer = layerOf(body);
    if (!layer) return;
    this.stop();
    layer.addTo(this.map);
    this.shown.clearLayers();
    layer.editing.enable();
    this.editing = { layer, kind: this.kind };
    this.#bar(false, this.say("hint_editing"));
    document.getElementById("draw-finish").hidden = false;
  }

  #endEditing(keep) {
    const { layer, kind } = this.editing;
    this.editing = null;
    layer.editing.disable();
    layer.remove();
    this.#bar(false, "");
    if (!keep) return this.#set(this.body, this.kind);
    const body = { ...this.body, geometry: layer.toGeoJSON(7).geometry };
    if (layer.getRadius) body.radius_m = Number(layer.getRadius().toFixed(1));
    return this.#set(body, kind);
  }

  #set(body, kind) {
    this.body = body;
    this.kind = body ? kind : null;
    this.shown.clearLayers();
    if (body?.adcodes) {
      const features = body.adcodes.map(this.featureOf).filter(Boolean);
      L.geoJSON({ type: "FeatureCollection", features }, { style: PICKED, pane: "region", interactive: false }).addTo(this.shown);
    } else if (body?.crs === "WGS84") {
      layerOf(body)?.addTo(this.shown);
    }
    document.getElementById("edit-outline").hidden = !(body?.geometry && body.crs === "WGS84" && layerOf(body));
    this.onChange();
  }

  #bar(corners, hint) {
    const bar = document.getElementById("drawing");
    bar.hidden = !hint;
    document.getElementById("draw-undo").hidden = !corners;
    document.getElementById("draw-finish").hidden = !corners;
    document.getElementById("hint").textContent = hint;
    this.map.getContainer().parentElement.classList.toggle("drawing-now", Boolean(this.handler));
  }

  #system(crs) {
    const select = this.#input("crs");
    select.value = crs;
    if (select.selectedIndex < 0) {
      select.value = "EPSG";
      this.#input("epsg").value = crs.replace(/^EPSG:/, "");
    }
    this.#epsgShown();
  }

  #epsgShown() {
    document.getElementById("epsg-label").hidden = this.#input("crs").value !== "EPSG";
  }

  #input(id) {
    return document.getElementById(id);
  }

  #boxes() {
    return [...this.form.querySelectorAll('input[name="adcode"]')];
  }

  // leaflet-draw's own hints beside the pointer, in the page's language; fixed words, no stored text
  #words() {
    const { say } = this;
    const handlers = L.drawLocal.draw.handlers;
    handlers.polygon.tooltip = { start: say("draw_first"), cont: say("draw_next"), end: say("draw_close") };
    handlers.polyline.error = say("draw_crossing");
    handlers.polyline.tooltip = { start: say("draw_first"), cont: say("draw_next"), end: say("draw_next") };
    handlers.rectangle.tooltip = { start: say("draw_drag") };
    handlers.circle.tooltip = { start: say("draw_drag") };
    handlers.circle.radius = say("draw_radius");
    handlers.simpleshape.tooltip = { end: say("draw_release") };
  }
}

// Small corners for a mouse, even where the screen can be touched.
function cornerIcon() {
  return L.divIcon({ iconSize: COARSE.matches ? [20, 20] : [11, 11], className: "leaflet-div-icon leaflet-editing-icon" });
}

// A layer that leaflet-draw can change; null for what it cannot (several parts, holes of parts).
function layerOf(body) {
  const { type, coordinates } = body?.geometry ?? {};
  const turned = (ring) => ring.map(([lon, lat]) => [lat, lon]);
  const options = { ...SHAPE, pane: "region", interactive: false, poly: { icon: cornerIcon() } };
  if (type === "Point" && body.radius_m > 0) return L.circle([coordinates[1], coordinates[0]], { ...options, radius: body.radius_m });
  if (type === "LineString") return L.polyline(turned(coordinates), { ...options, fill: false });
  if (type === "Polygon" && Array.isArray(coordinates[0])) return L.polygon(coordinates.map((ring) => turned(ring.slice(0, -1))), options);
  return null;
}

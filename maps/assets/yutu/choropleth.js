// The districts on the map: shares in the plan's own bins, levels as badge and outline.

import { el, ROMAN } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HAN = /[⺀-鿿]/;
const SMALL = 0.0075; // of the city's extent
const OVERHANG = 1.7; // a name may be this much wider than its district where nothing is in the way

// numerator/denominator of a measure in one district as integers, or null where nothing is known.
export function fraction(measure, district) {
  if (!district) return null;
  if (measure.source === "facilities") {
    let down = 0;
    let total = 0;
    let unknown = 0;
    for (const kind of measure.kinds) {
      const count = district.facilities?.[kind];
      if (!count) continue;
      down += count.down;
      total += count.total;
      unknown += count.unknown ?? 0;
    }
    return total > 0 ? { part: down, whole: total, unknown } : null;
  }
  if (measure.source === "load") {
    const load = district.load;
    if (!load || !(load.load_mw > 0) || load.load_shed_mw === null) return null;
    // kilowatts are the stored integers; megawatts are only how they are written
    return { part: Math.round(load.load_shed_mw * 1000), whole: Math.round(load.load_mw * 1000) };
  }
  if (measure.source === "customers") {
    const customers = district.customers;
    if (!customers || !(customers.total > 0) || customers.out === null) return null;
    return { part: customers.out, whole: customers.total };
  }
  return null;
}

// 0 nothing, 1 below the first edge, 2 from the first edge on …; null without data. Compared as
// integers (part · den ≥ whole · num), so that exactly half is half.
export function binOf(measure, value) {
  if (value === null) return null;
  if (value.part <= 0) return 0;
  let bin = 1;
  for (const edge of measure.edges) {
    if (BigInt(value.part) * BigInt(edge.den) >= BigInt(value.whole) * BigInt(edge.num)) bin += 1;
  }
  return bin;
}

export class Choropleth {
  constructor({ map, layer, style, say, onSelect }) {
    Object.assign(this, { map, layer, style, say, onSelect });
    this.paths = new Map();
    this.badges = new Map();
    this.names = new Map();
    this.selected = null;
    this.counts = [];
    this.levelCounts = {};
    this.unknown = 0;
    layer.eachLayer((path) => this.adopt(path));
    this.patterns();
    map.on("zoomend", () => this.fitNames());
    this.fitNames();
  }

  adopt(path) {
    const { adcode, name } = path.feature.properties;
    this.paths.set(adcode, path);
    const tip = el("span", { text: name });
    path.bindTooltip(tip, { sticky: true, direction: "top", className: "district-tip" });
    path.on("click", () => this.onSelect(adcode));
    path.on("mouseover", () => path.setStyle({ weight: (path.options.baseWeight ?? 1) + 1.5 }));
    path.on("mouseout", () => path.setStyle({ weight: path.options.baseWeight ?? 1 }));
    const node = path.getElement();
    node.dataset.adcode = adcode;
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", name);
    node.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.onSelect(adcode);
    });
    const label = path.feature.properties.label;
    if (!label) return;
    const at = [label[1], label[0]];
    const nameNode = el("span", { cls: "district-name", text: shortName(name) });
    const badgeNode = el("span", { cls: "map-badge", attrs: { hidden: "" } });
    const icon = L.divIcon({ className: "district-label", iconSize: null, html: el("div", { cls: "district-stack" }, badgeNode, nameNode) });
    L.marker(at, { icon, interactive: false, keyboard: false, pane: "labels" }).addTo(this.map);
    this.badges.set(adcode, badgeNode);
    this.names.set(adcode, nameNode);
  }

  // Names by the room they have: in full, else without 区 or 县, else only where none is in the way.
  fitNames() {
    const taken = [];
    const byRoom = [...this.names].map(([adcode, node]) => ({ adcode, node, ...this.room(adcode) }))
      .sort((a, b) => b.width * b.height - a.width * a.height);
    for (const { adcode, node, width, height, x, y } of byRoom) {
      const name = shortName(this.paths.get(adcode).feature.properties.name);
      node.hidden = true;
      for (const text of [name, shortest(name)]) {
        const w = text.length * (HAN.test(text) ? 13 : 7);
        const box = [x - w / 2 - 1, y - 9, x + w / 2 + 1, y + 9];
        const fits = width * 0.72 >= w && height >= 34;
        if (!fits && (width * OVERHANG < w || height < 12)) continue;
        if (taken.some((other) => meet(box, other))) continue;
        taken.push(box);
        node.textContent = text;
        node.classList.toggle("tight", !fits);
        node.hidden = false;
        break;
      }
    }
  }

  // Of a district on the screen: its extent and the point its name stands at.
  room(adcode) {
    const path = this.paths.get(adcode);
    const bounds = path.getBounds();
    const a = this.map.latLngToLayerPoint(bounds.getNorthWest());
    const b = this.map.latLngToLayerPoint(bounds.getSouthEast());
    const [lon, lat] = path.feature.properties.label;
    const { x, y } = this.map.latLngToLayerPoint([lat, lon]);
    return { width: b.x - a.x, height: b.y - a.y, x, y };
  }

  // The extent of the districts that are small beside the whole city; null where none is.
  centre() {
    const extent = (box) => (box.getEast() - box.getWest()) * (box.getNorth() - box.getSouth());
    const city = extent(this.layer.getBounds());
    const found = L.latLngBounds([]);
    for (const path of this.paths.values()) {
      if (extent(path.getBounds()) < city * SMALL) found.extend(path.getBounds());
    }
    return found.isValid() ? found : null;
  }

  patterns() {
    const svg = this.layer.getLayers()[0]?.getElement()?.ownerSVGElement;
    if (!svg) return;
    const defs = document.createElementNS(SVG, "defs");
    defs.append(this.pattern("no-data", "#f7f8fa", this.style.no_data, "M0,8 L8,0 M-2,2 L2,-2 M6,10 L10,6", 8));
    const lines = { 1: "M0,0 L10,10 M10,0 L0,10", 2: "M0,10 L10,0", 3: "M0,5 L10,5", 4: "M5,4 L5,6" };
    for (const level of [1, 2, 3, 4]) {
      defs.append(this.pattern(`level-${level}`, this.style.levels[level], this.style.ink[level], lines[level], 10, 0.28));
    }
    svg.prepend(defs);
  }

  pattern(name, ground, stroke, lines, size, opacity = 1) {
    const pattern = document.createElementNS(SVG, "pattern");
    set(pattern, { id: `fill-${name}`, width: size, height: size, patternUnits: "userSpaceOnUse" });
    const rect = document.createElementNS(SVG, "rect");
    set(rect, { width: size, height: size, fill: ground });
    const path = document.createElementNS(SVG, "path");
    set(path, { d: lines, stroke, "stroke-width": 1.2, "stroke-opacity": opacity, fill: "none" });
    pattern.append(rect, path);
    return pattern;
  }

  paint(situation, plan, measure) {
    const byCode = new Map((situation?.districts ?? []).map((d) => [d.adcode, d]));
    this.counts = new Array((measure.edges?.length ?? 0) + 2).fill(0);
    this.unknown = 0;
    this.levelCounts = { 0: 0, 1: 0, 2: 0, 3: 0, 4: 0 };
    for (const [adcode, path] of this.paths) {
      const district = byCode.get(adcode);
      const level = district?.plans?.[plan.id] ?? null;
      let fill;
      let dark = false;
      if (measure.source === "level") {
        fill = district === undefined ? "url(#fill-no-data)" : level ? `url(#fill-level-${level})` : this.style.nothing_down;
        if (district === undefined) this.unknown += 1;
        path.getElement().dataset.bin = district === undefined ? "none" : String(level ?? 0);
      } else {
        const bin = binOf(measure, fraction(measure, district));
        fill = bin === null ? "url(#fill-no-data)" : measure.colours[bin];
        dark = bin !== null && measure.dark[bin];
        if (bin === null) this.unknown += 1;
        else this.counts[bin] += 1;
        path.getElement().dataset.bin = bin === null ? "none" : String(bin);
      }
      if (district) this.levelCounts[level ?? 0] += 1;
      this.names.get(adcode)?.classList.toggle("on-dark", dark);
      const chosen = adcode === this.selected;
      const weight = chosen ? 3 : level ? 2.25 : 0.9;
      path.options.baseWeight = weight;
      path.setStyle({
        fillColor: fill,
        fillOpacity: 1,
        weight,
        color: chosen ? "#0e1726" : level ? this.style.levels[level] : "#8f9db0",
        opacity: 1,
      });
      path.getElement().dataset.level = level ?? "";
      const name = path.feature.properties.name;
      path.getElement().setAttribute("aria-label", level ? `${name}, ${this.say("level_of", { level: ROMAN[level] })}` : name);
      if (level) path.bringToFront();
      this.badge(adcode, level, district, plan);
    }
    if (this.selected) this.paths.get(this.selected)?.bringToFront();
  }

  badge(adcode, level, district, plan) {
    const node = this.badges.get(adcode);
    if (!node) return;
    node.hidden = !level;
    node.className = `map-badge badge level-${level ?? "none"}`;
    const open = district?.incidents?.[plan.id];
    node.textContent = level ? ROMAN[level] + (open > 1 ? `·${open}` : "") : "";
  }

  select(adcode) {
    this.selected = adcode;
  }

  reveal(adcode) {
    const path = this.paths.get(adcode);
    if (path && !this.map.getBounds().contains(path.getBounds())) this.map.panInsideBounds(path.getBounds());
  }
}

// 石柱土家族自治县 → 石柱县, on the map only.
function shortName(name) {
  return name.replace(/^(.{2})(?:.{1,3}族)+自治县$/, "$1县");
}

// 渝中区 → 渝中; a name of two characters stays.
function shortest(name) {
  return name.length > 2 ? name.replace(/[区县]$/, "") : name;
}

function meet([a, b, c, d], [e, f, g, h]) {
  return a < g && e < c && b < h && f < d;
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
}

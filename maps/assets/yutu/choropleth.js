// The districts on the map: shares in the plan's own bins, levels as badge and outline.

import { el, ROMAN } from "./dom.js";
import { Labels } from "./labels.js";

const SVG = "http://www.w3.org/2000/svg";
const SMALL = 0.0075; // of the city's extent
const CONTEXT = 0.7; // of a district's extent, shown around it when it is chosen from a list

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
  // `inset`: the same districts drawn once more, smaller in extent; for the pointer only.
  constructor({ map, layer, style, say, onSelect, inset = false }) {
    Object.assign(this, { map, layer, style, say, onSelect, inset });
    this.paths = new Map();
    this.labels = new Labels(map, inset);
    this.selected = null;
    this.counts = [];
    this.levelCounts = {};
    this.unknown = 0;
    layer.eachLayer((path) => this.adopt(path));
    if (!inset) this.patterns();
    this.labels.layout();
  }

  adopt(path) {
    const { adcode, name, label } = path.feature.properties;
    this.paths.set(adcode, path);
    path.bindTooltip(el("span", { text: name }), { sticky: true, direction: "top", className: "district-tip" });
    path.on("click", () => this.onSelect(adcode));
    path.on("mouseover", () => path.setStyle({ weight: (path.options.baseWeight ?? 1) + 1.5 }));
    path.on("mouseout", () => path.setStyle({ weight: path.options.baseWeight ?? 1 }));
    if (label) this.labels.add(adcode, name, label, path.getBounds());
    const node = path.getElement();
    node.dataset[this.inset ? "insetAdcode" : "adcode"] = adcode;
    if (this.inset) return;
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", name);
    node.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.onSelect(adcode);
    });
  }

  // The districts that are small beside the whole city: their extent and codes; null where none is.
  centre() {
    const extent = (box) => (box.getEast() - box.getWest()) * (box.getNorth() - box.getSouth());
    const city = extent(this.layer.getBounds());
    const bounds = L.latLngBounds([]);
    const adcodes = new Set();
    for (const [adcode, path] of this.paths) {
      if (extent(path.getBounds()) >= city * SMALL) continue;
      bounds.extend(path.getBounds());
      adcodes.add(adcode);
    }
    return adcodes.size ? { bounds, adcodes } : null;
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
    const byGravity = { 1: [], 2: [], 3: [], 4: [] };
    for (const [adcode, path] of this.paths) {
      const district = byCode.get(adcode);
      const level = district?.plans?.[plan.id] ?? null;
      const { fill, bin, dark } = this.fill(measure, district, level);
      const node = path.getElement();
      node.dataset.bin = bin;
      node.dataset.level = level ?? "";
      if (district) this.levelCounts[level ?? 0] += 1;
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
      const name = path.feature.properties.name;
      if (!this.inset) node.setAttribute("aria-label", level ? `${name}, ${this.say("level_of", { level: ROMAN[level] })}` : name);
      byGravity[level]?.push(path);
      const open = district?.incidents?.[plan.id];
      this.labels.set(adcode, { level, dark, text: level ? ROMAN[level] + (open > 1 ? `·${open}` : "") : "" });
    }
    // A border belongs to two districts: it is drawn in the colour of the graver one.
    for (const level of [4, 3, 2, 1]) for (const path of byGravity[level]) path.bringToFront();
    if (this.selected) this.paths.get(this.selected)?.bringToFront();
    this.labels.layout();
  }

  // Of one district: the colour or pattern, which bin it is, and whether text on it must be light.
  fill(measure, district, level) {
    if (measure.source === "level") {
      if (district === undefined) {
        this.unknown += 1;
        return { fill: "url(#fill-no-data)", bin: "none", dark: false };
      }
      return { fill: level ? `url(#fill-level-${level})` : this.style.nothing_down, bin: String(level ?? 0), dark: false };
    }
    const bin = binOf(measure, fraction(measure, district));
    if (bin === null) {
      this.unknown += 1;
      return { fill: "url(#fill-no-data)", bin: "none", dark: false };
    }
    this.counts[bin] += 1;
    return { fill: measure.colours[bin], bin: String(bin), dark: measure.dark[bin] };
  }

  select(adcode) {
    this.selected = adcode;
  }

  reveal(adcode) {
    const path = this.paths.get(adcode);
    if (path && !this.map.getBounds().contains(path.getBounds())) this.map.panInsideBounds(path.getBounds());
  }

  // To a district chosen elsewhere: in the middle of what `covered` (left, bottom; pixels) leaves free.
  zoomTo(adcode, { left = 0, bottom = 0 } = {}) {
    const path = this.paths.get(adcode);
    if (!path) return;
    const bounds = path.getBounds().pad(CONTEXT);
    this.map.fitBounds(bounds, { paddingTopLeft: [left, 0], paddingBottomRight: [0, bottom], animate: false });
  }
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
}

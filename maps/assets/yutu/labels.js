// Names and level badges of the districts on one map, placed so that none covers another, an
// incident, or the whole of a small district: what has no room inside is told outside, with a line.

import { el } from "./dom.js";

const HAN = /[⺀-鿿]/;
const OVERHANG = 1.7; // a name may be this much wider than its district where nothing is in the way
// Pixels. `stackRoom` and `badgeRoom`: the radius inside a district from which badge and name, or the
// badge alone, leave its colour visible; then sizes of badge and name, and of one character.
const LARGE = { stackRoom: 17, badgeRoom: 11, badge: 24, badgeHigh: 20, nameHigh: 18, han: 13, latin: 7 };
const SMALL = { stackRoom: 14, badgeRoom: 9, badge: 20, badgeHigh: 17, nameHigh: 15, han: 11.5, latin: 6.2 };
const INSIDE = [0, 12, 22, 32, 44].flatMap((d) => around(d, 8));
const SIDES = ["under", "over", "right", "left"];
const OUTSIDE = [20, 28, 36, 46, 56, 68, 80, 94, 110].flatMap((d) => around(d, 16));

export class Labels {
  constructor(map, small = false) {
    this.map = map;
    this.size = small ? SMALL : LARGE;
    this.all = new Map();
    this.away = new Set(); // districts labelled elsewhere
    this.obstacles = () => [];
    map.on("zoomend resize", () => this.layout());
  }

  // `label` is where a district has most room: longitude, latitude, and how far the border is, degrees.
  add(adcode, name, label, bounds) {
    const [lon, lat, room] = label;
    const nodes = {
      leader: el("span", { cls: "leader", attrs: { hidden: "" } }),
      badge: el("span", { cls: "map-badge", attrs: { hidden: "" } }),
      name: el("span", { cls: "district-name", text: shortName(name) }),
    };
    const stack = el("div", { cls: "district-stack" }, nodes.badge, nodes.name);
    const icon = L.divIcon({ className: "district-label", iconSize: null, html: el("div", {}, nodes.leader, stack) });
    L.marker([lat, lon], { icon, interactive: false, keyboard: false, pane: "labels" }).addTo(this.map);
    this.all.set(adcode, { ...nodes, stack, at: L.latLng(lat, lon), edge: L.latLng(lat + (room ?? 0), lon), bounds, texts: texts(name), level: null });
  }

  set(adcode, { level, text, dark }) {
    const one = this.all.get(adcode);
    if (!one) return;
    Object.assign(one, { level, dark });
    one.badge.className = `map-badge badge level-${level ?? "none"}`;
    one.badge.textContent = text;
  }

  layout() {
    const spots = [...this.all].map(([adcode, one]) => this.spot(adcode, one));
    for (const spot of spots) this.hide(spot.one);
    const shown = spots.filter(({ one }) => !this.away.has(one.adcode));
    this.taken = this.obstacles().map(({ at, radius }) => square(this.map.latLngToLayerPoint(at), radius));
    const graded = shown.filter(({ one }) => one.level).sort((a, b) => a.one.level - b.one.level || b.r - a.r);
    this.kept = graded.filter(({ r }) => r < this.size.stackRoom).map((spot) => ({ spot, box: square(spot, spot.r) }));
    const outside = graded.filter((spot) => !this.placeInside(spot));
    for (const spot of outside) this.placeOutside(spot);
    for (const spot of shown.sort((a, b) => b.width * b.height - a.width * a.height)) if (!spot.named) this.placeName(spot);
    if (this.size === SMALL) for (const spot of shown) if (!spot.named && !spot.one.level) this.placeOutside(spot);
  }

  // How far from where a district has most room its border is, pixels.
  room(adcode) {
    const one = this.all.get(adcode);
    return one ? this.spot(adcode, one).r : Infinity;
  }

  // Of a district on the screen: its extent, the point its name stands at, the room around that.
  spot(adcode, one) {
    one.adcode = adcode;
    const { x, y } = this.map.latLngToLayerPoint(one.at);
    const a = this.map.latLngToLayerPoint(one.bounds.getNorthWest());
    const b = this.map.latLngToLayerPoint(one.bounds.getSouthEast());
    return { one, x, y, r: y - this.map.latLngToLayerPoint(one.edge).y, width: b.x - a.x, height: b.y - a.y, badge: null, named: false };
  }

  // The badge over its name, else the badge alone, inside the district.
  placeInside(spot) {
    const { one } = spot;
    const wide = this.badgeWidth(one);
    if (spot.r >= this.size.stackRoom) {
      for (const text of one.texts) {
        const w = Math.max(wide, this.textWidth(text));
        if (spot.width * OVERHANG < w) continue;
        const found = this.free(spot, INSIDE, w, this.size.badgeHigh + this.size.nameHigh, spot.r - this.size.stackRoom);
        if (found) return this.show(spot, found, "stacked", text);
      }
    }
    if (spot.r < this.size.badgeRoom) return false;
    const found = this.free(spot, INSIDE, wide, this.size.badgeHigh, spot.r - this.size.badgeRoom);
    if (found) spot.badge = found;
    return found ? this.show(spot, found, "alone", null) : false;
  }

  // Badge and name side by side, or the name alone, next to the district, and a line to it. A level is
  // never left out.
  placeOutside(spot) {
    const { one } = spot;
    const text = one.texts.at(-1);
    const w = (one.level ? this.badgeWidth(one) : 0) + 8 + this.textWidth(text);
    const h = this.size.badgeHigh + 4;
    const frame = this.frame();
    const visible = within(square(spot, 0), frame);
    const own = this.map.latLngToLayerPoint(one.bounds.getNorthWest());
    const ground = [own.x, own.y, own.x + spot.width, own.y + spot.height];
    const clear = OUTSIDE.map(([dx, dy]) => [(dx / Math.hypot(dx, dy)) * (w / 2 - 8) + dx, dy]).filter((offset) => {
      const box = boxAt(spot, offset, w, h);
      return (!visible || within(box, frame)) && this.isFree(box, spot);
    });
    const found = clear.find((offset) => !meet(boxAt(spot, offset, w, h), ground)) ?? clear[0];
    if (!found && !one.level) return false;
    if (!found) {
      this.take(boxAt(spot, [0, 0], this.badgeWidth(one), h));
      return this.show(spot, [0, 0], "alone", null);
    }
    this.take(boxAt(spot, found, w, h));
    this.leader(one, found, w, h);
    return this.show(spot, found, "beside", text);
  }

  // What of the map is seen.
  frame() {
    const { x, y } = this.map.containerPointToLayerPoint([0, 0]);
    const size = this.map.getSize();
    return [x + 2, y + 2, x + size.x - 2, y + size.y - 2];
  }

  // Names by the room they have: in full, else without 区 or 县, else only where none is in the way.
  placeName(spot) {
    const { one } = spot;
    for (const text of one.texts) {
      const w = this.textWidth(text);
      const fits = spot.width * 0.72 >= w && spot.height >= 34;
      if (!fits && (spot.width * OVERHANG < w || spot.height < 12)) continue;
      const from = spot.badge;
      const offsets = from ? this.sides(spot, w) : INSIDE;
      const found = this.free(spot, offsets, w + 2, this.size.nameHigh, from ? Infinity : spot.r - 8);
      if (!found) continue;
      this.show(spot, from ?? found, from ? SIDES[offsets.indexOf(found)] : "plain", text);
      one.name.classList.toggle("tight", !fits);
      return;
    }
  }

  // Where a name of that width stands around a badge, in the order of SIDES; cut off nowhere.
  sides(spot, w) {
    const [x, y] = spot.badge;
    const [up, aside] = [(this.size.nameHigh + this.size.badgeHigh) / 2, (this.badgeWidth(spot.one) + w) / 2 + 2];
    const frame = this.frame();
    const seen = within(square(spot, 0), frame);
    const cut = (offset) => seen && !within(boxAt(spot, offset, w, this.size.nameHigh), frame);
    return [[x, y + up], [x, y - up], [x + aside, y], [x - aside, y]].map((offset) => (cut(offset) ? null : offset));
  }

  // The first offset at which a box lies free, at most `far` from where the district has most room.
  free(spot, offsets, w, h, far) {
    const found = offsets.find((at) => at && Math.hypot(...at) <= Math.max(far, 0) && this.isFree(boxAt(spot, at, w, h), spot));
    if (found) this.take(boxAt(spot, found, w, h));
    return found;
  }

  isFree(box, spot) {
    return !this.taken.some((other) => meet(box, other)) && !this.kept.some((one) => one.spot !== spot && meet(box, one.box));
  }

  badgeWidth({ badge }) {
    return badge.textContent.length > 1 ? this.size.badge * 1.8 : this.size.badge;
  }

  textWidth(text) {
    return text.length * (HAN.test(text) ? this.size.han : this.size.latin);
  }

  take(box) {
    this.taken.push(box);
  }

  hide(one) {
    for (const node of [one.leader, one.badge, one.name]) node.hidden = true;
    one.name.classList.remove("tight");
  }

  // `how`: stacked, alone (badge), beside (both, outside), plain (name), or one of SIDES of its badge.
  show(spot, [dx, dy], how, text) {
    const { one } = spot;
    one.stack.dataset.how = how;
    one.stack.style.left = `${dx}px`;
    one.stack.style.top = `${dy}px`;
    one.badge.hidden = !one.level;
    one.name.hidden = text === null;
    if (text !== null) one.name.textContent = text;
    one.name.classList.toggle("on-dark", Boolean(one.dark) && how !== "beside" && spot.r >= this.size.badgeRoom);
    spot.named = text !== null;
    return true;
  }

  // From the district to the near edge of what stands beside it.
  leader(one, [dx, dy], w, h) {
    const share = Math.max(0, 1 - Math.min(w / 2 / Math.abs(dx || 1e-9), h / 2 / Math.abs(dy || 1e-9)));
    one.leader.style.width = `${Math.hypot(dx, dy) * share}px`;
    one.leader.style.transform = `rotate(${Math.atan2(dy, dx)}rad)`;
    one.leader.hidden = false;
  }
}

// Offsets at one distance: to every side, below first.
function around(distance, sides) {
  if (!distance) return [[0, 0]];
  return Array.from({ length: sides }, (_, n) => {
    const turn = Math.PI / 2 + (n % 2 ? 1 : -1) * Math.ceil(n / 2) * ((2 * Math.PI) / sides);
    return [distance * Math.cos(turn), distance * Math.sin(turn)];
  });
}

function square({ x, y }, radius) {
  return [x - radius, y - radius, x + radius, y + radius];
}

function boxAt({ x, y }, [dx, dy], w, h) {
  return [x + dx - w / 2, y + dy - h / 2, x + dx + w / 2, y + dy + h / 2];
}

function meet([a, b, c, d], [e, f, g, h]) {
  return a < g && e < c && b < h && f < d;
}

function within([a, b, c, d], [e, f, g, h]) {
  return a >= e && b >= f && c <= g && d <= h;
}

// In full and, where that is another word, shorter.
function texts(name) {
  const full = shortName(name);
  return [...new Set([full, shortest(full)])];
}

// 石柱土家族自治县 → 石柱县, on the map only.
function shortName(name) {
  return name.replace(/^(.{2})(?:.{1,3}族)+自治县$/, "$1县");
}

// 渝中区 → 渝中, 两江新区 → 两江; a name of two characters stays.
function shortest(name) {
  return name.length > 2 ? name.replace(/新?[区县]$/, "") : name;
}

// What part of the city a map shows: all of it, and so on when the window changes, until someone moves
// the map; buttons for all of it and for the small districts in the middle.

import { el } from "./dom.js";

const AROUND = { padding: [14, 14], animate: false };

export class CityView {
  constructor({ map, layer, say }) {
    Object.assign(this, { map, layer, say, whole: true, fitting: false });
    map.on("moveend", () => {
      if (!this.fitting) this.whole = false;
    });
    this.fit();
    new ResizeObserver(() => this.fit()).observe(map.getContainer());
  }

  fit() {
    this.fitting = true;
    this.map.invalidateSize({ animate: false });
    if (this.whole) this.map.fitBounds(this.layer.getBounds(), AROUND);
    this.fitting = false;
  }

  // `centre`: { bounds } of the small districts, or null where there are none.
  addButtons(centre) {
    const control = new L.Control({ position: "bottomleft" });
    control.onAdd = () => {
      const whole = this.button("whole", () => {
        this.whole = true;
        this.fit();
      });
      const near = centre ? this.button("centre", () => this.map.fitBounds(centre.bounds, AROUND)) : null;
      const box = el("div", { cls: "view-buttons" }, whole, near);
      L.DomEvent.disableClickPropagation(box);
      return box;
    };
    this.map.addControl(control);
  }

  button(id, show) {
    return el("button", { cls: "centre", text: this.say(id), attrs: { type: "button", id, title: this.say(`${id}_title`) }, on: { click: show } });
  }
}

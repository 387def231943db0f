// Collections as files: an address of /v1/export put together, and fetched so that a refusal can be
// told in words.

import { Refusal } from "./planner_api.js";
import { integer } from "./dom.js";

const NAMELESS = { formats: new Set(["gpkg", "parquet"]), systems: new Set(["GCJ-02", "BD-09"]) };
const NOW_ONLY = new Set(["facilities", "teams"]);

export class Files {
  // `bbox` and `adcodes` give the region's box and, where it is chosen by districts, their codes.
  constructor({ api, url, at, say, faults, bbox, adcodes }) {
    Object.assign(this, { api, url, at, say, faults, bbox, adcodes });
    this.form = document.getElementById("export-form");
    this.link = document.getElementById("download");
    this.form.addEventListener("input", () => this.draw());
    this.form.addEventListener("change", () => this.draw());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.fetch();
    });
    this.draw();
  }

  // Called whenever the region changes, too: without one there is no box.
  draw() {
    const [what, format, limit] = ["what", "format", "limit"].map((name) => this.#value(name));
    for (const part of this.form.querySelectorAll("[data-of]")) part.hidden = part.dataset.of !== what;
    for (const part of this.form.querySelectorAll("[data-as]")) part.hidden = !part.dataset.as.split(" ").includes(format);
    for (const part of this.form.querySelectorAll("[data-limit]")) part.hidden = part.dataset.limit !== limit;
    document.getElementById("export-epsg-label").hidden = this.#value("crs") !== "EPSG";
    this.faults.clear();
    const wrong = this.#wrong(what, format);
    if (wrong) this.faults.put(this.faults.places[wrong[0]] ?? this.faults.rest, this.say(wrong[1]));
    this.link.toggleAttribute("aria-disabled", Boolean(wrong));
    const address = this.address();
    this.link.href = address;
    document.getElementById("export-address").value = new URL(address, location.href).href;
  }

  address() {
    const [what, format, limit] = ["what", "format", "limit"].map((name) => this.#value(name));
    const query = new URLSearchParams();
    const crs = this.#crs();
    if (crs !== "WGS84") query.set("crs", crs);
    if (this.at) query.set("at", this.at);
    const box = limit === "bbox" ? this.bbox() : null;
    if (box) query.set("bbox", box.join(","));
    if (limit === "picked" && this.adcodes()) query.set("adcode", this.adcodes().join(","));
    if (limit === "district") query.set("adcode", this.#value("adcode"));
    if (what === "facilities") {
      for (const name of ["kind", "state"]) if (this.#value(name)) query.set(name, this.#value(name));
    }
    if (what === "outages" && document.getElementById("export-open").checked) query.set("open", "true");
    if (format === "xlsx" || format === "csv") query.set("lang", this.#value("lang"));
    return `${this.url}/${what}.${format}${query.size ? `?${query}` : ""}`;
  }

  async fetch() {
    this.draw();
    if (this.link.hasAttribute("aria-disabled") || this.busy) return;
    const note = document.getElementById("export-note");
    this.busy = true;
    note.textContent = this.say("making");
    try {
      const answer = await this.api.ask("GET", this.address(), undefined, "*/*");
      const blob = await answer.blob().catch(() => {
        throw new Refusal(0); // cut off in the middle: no half file is handed over
      });
      const name = named(answer.headers.get("Content-Disposition") ?? "");
      hand(blob, name);
      note.textContent = this.say("made", { name, n: integer(JSON.parse(answer.headers.get("Yutu-Manifest") ?? "{}").rows) });
    } catch (refusal) {
      note.textContent = "";
      this.faults.show(refusal);
    } finally {
      this.busy = false;
    }
  }

  #crs() {
    const chosen = this.#value("crs");
    return chosen === "EPSG" ? `EPSG:${document.getElementById("export-epsg").value.trim()}` : chosen;
  }

  #wrong(what, format) {
    if (this.at && NOW_ONLY.has(what)) return ["collection", "export_now_only"];
    if (NAMELESS.formats.has(format) && NAMELESS.systems.has(this.#crs())) return ["format", "export_no_name"];
    if (this.#value("limit") === "bbox" && !this.bbox()) return ["bbox", "need_region"];
    if (this.#value("limit") === "picked" && !this.adcodes()) return ["adcode", "need_districts"];
    return null;
  }

  #value(name) {
    return document.getElementById(`export-${name}`).value;
  }
}

// The name in the page's language, else the one in ASCII.
function named(disposition) {
  const own = /filename\*=UTF-8''([^;]+)/i.exec(disposition)?.[1];
  return own ? decodeURIComponent(own) : (/filename="?([^";]+)"?/.exec(disposition)?.[1] ?? "yutu");
}

function hand(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

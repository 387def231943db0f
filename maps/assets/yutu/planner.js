// Wires the planner's page together: one region, one list of suppositions, one time.

import { Choropleth } from "./choropleth.js";
import { CityView } from "./city_view.js";
import { Connection } from "./connection.js";
import { dayAndTime, el, replace, speaker } from "./dom.js";
import { Header } from "./header.js";
import { Legend } from "./legend.js";
import { Api, Faults, Refusal } from "./planner_api.js";
import { Changes } from "./planner_changes.js";
import { Files } from "./planner_export.js";
import { FacilityFinder } from "./planner_facilities.js";
import { Moments } from "./planner_moments.js";
import { Numbers } from "./planner_numbers.js";
import { Outline } from "./planner_outline.js";
import { Result } from "./planner_result.js";
import { Saved } from "./planner_saved.js";
import { When } from "./planner_when.js";

const page = JSON.parse(document.getElementById("yutu-page").textContent);
const say = speaker(page.words);
const byId = (id) => document.getElementById(id);
const map = window[page.map];
const layer = window[page.layer];
const VIEWS = ["region", "suppose", "saved", "export"];
const SOON_MS = 250;
const KEPT = `yutu.planner.${page.username}`;

const state = { situation: null, plan: page.plans[0], chosen: false, view: "region", turn: 0, evaluated: null };
const features = new Map();
layer.eachLayer((path) => features.set(path.feature.properties.adcode, path.feature));
const nameOf = (code) =>
  features.get(code)?.properties.name ??
  (state.situation?.units ?? []).find((unit) => unit.code === code)?.name ??
  (state.situation?.districts ?? []).find((one) => one.adcode === code)?.name ??
  code;

map.createPane("labels").style.zIndex = "450";
map.getPane("labels").style.pointerEvents = "none";
L.control.zoom({ position: "topright", zoomInTitle: say("zoom_in"), zoomOutTitle: say("zoom_out") }).addTo(map);
L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);
const cityView = new CityView({ map, layer, say });

const faultsOf = (places, rest) => new Faults({ say, places, rest });
const regionFaults = faultsOf({ geometry: "error-geometry", crs: "error-crs", radius_m: "error-radius_m", buffer_m: "error-buffer_m", adcodes: "error-region" }, "error-region");
const changeFaults = faultsOf({ kind: "error-kind", facilities: "error-facilities", load_shed_kw: "error-load_shed_kw", customers_out: "error-customers_out", outage_id: "error-outage_id", people_stranded: "error-people_stranded" }, "error-change");
const runFaults = faultsOf({ hours: "error-hours" }, "error-evaluate");
const saveFaults = faultsOf({ name: "error-name" }, "error-name");
const exportFaults = faultsOf({ crs: "error-export-crs", format: "error-format", collection: "error-collection" }, "error-export");
const whenFaults = faultsOf({ at: "error-at" }, "error-at");

const api = new Api({ csrf: page.csrf, lang: page.lang, sessionUrl: page.urls.session, onSignedOut: () => header.signedOut() });
const connection = new Connection({ urls: page.urls, at: page.at, lang: page.lang, onSituation, onState: (news) => header.state(news), onEvent: () => {} });
const header = new Header({ page, say, now: () => connection.now(), onPlan: choosePlan });
const choropleth = new Choropleth({ map, layer, style: page.style, say, onSelect: pick });
const legend = new Legend({ root: byId("legend-body"), say, style: page.style });
cityView.addButtons(choropleth.centre());
const numbers = new Numbers({ root: byId("numbers"), say, kinds: page.kinds, nameOf, onAgain: () => ask() });
const moments = new Moments({ root: byId("moments"), say, plans: page.plans, plan: () => state.plan, onPlan: choosePlan, onShow: draw });
const result = new Result({ root: byId("result"), say, plans: page.plans, kinds: page.kinds, nameOf, plan: () => state.plan, onPlan: choosePlan, onSelect: reveal, onMoment: (index) => moments.go(index) });
const outline = new Outline({ map, featureOf: (code) => features.get(code), say, faults: regionFaults, onChange: regionChanged });
const changes = new Changes({ say, kinds: page.kinds, nameOf, faults: changeFaults, region: () => outline, onChange: changesChanged });
const finder = new FacilityFinder({ api, url: page.urls.facilities, say, kinds: page.kinds, nameOf, bbox: () => outline.bbox() });
const files = new Files({ api, url: page.urls.export, at: page.at, say, faults: exportFaults, bbox: () => outline.bbox(), adcodes: () => outline.body?.adcodes });
const saved = new Saved({ api, url: page.urls.scenarios, at: page.at, say, username: page.username, result, onOpen: openSaved });
new When({ api, url: page.urls.page, at: page.at, lang: page.lang, say, faults: whenFaults });

// --- the map ------------------------------------------------------------------------------------

// A district on the map is picked while districts are what is chosen.
function pick(code) {
  if (outline.picking) outline.toggle(code);
}

function reveal(code) {
  choropleth.select(features.has(code) ? code : null);
  const path = choropleth.paths.get(code);
  if (path && !map.getBounds().contains(path.getBounds())) map.fitBounds(path.getBounds(), { padding: [120, 120], animate: false });
  draw();
}

// `chosen`: by someone, whose choice then outlasts what-ifs that change another plan more.
function choosePlan(id, chosen = true) {
  state.plan = page.plans.find((plan) => plan.id === id) ?? page.plans[0];
  state.chosen ||= chosen;
  draw();
  result.draw();
}

function draw() {
  const active = document.activeElement;
  const supposed = moments.picture();
  const measure = supposed?.measure ?? state.plan.measures[0];
  header.show(state.situation, state.plan);
  choropleth.paint(supposed?.situation ?? state.situation, state.plan, measure);
  legend.show(state.plan, measure, choropleth, { shown: 0, unsettled: 0, extents: 0 }, { shown: 0, stale: 0 });
  moments.draw();
  // raising a path moves it in the document, which drops the keyboard focus
  if (active instanceof SVGElement && active.isConnected && document.activeElement !== active) active.focus({ preventScroll: true });
}

function onSituation(situation) {
  state.situation = situation;
  document.body.dataset.sequence = situation.sequence;
  draw();
  if (!page.at) numbers.movedOn(situation.sequence);
}

// --- the region ---------------------------------------------------------------------------------

function regionChanged() {
  numbers.clear(outline.body ? say("working") : "");
  regionFaults.clear();
  changes.offer(null);
  tellRegion();
  keep();
  clearTimeout(state.soon);
  state.turn += 1; // whatever is still on its way was about another region
  if (outline.body) state.soon = setTimeout(ask, SOON_MS);
}

function tellRegion() {
  byId("chosen-region").textContent = outline.describe(nameOf);
  finder.regionChanged();
  files.draw();
}

async function ask() {
  if (!outline.body) return;
  const turn = (state.turn += 1);
  numbers.clear(say("working"));
  try {
    const body = { ...outline.body, outline: true, ...(page.at ? { at: page.at } : {}) };
    const answer = await api.post(`${page.urls.regions}?lang=${page.lang}`, body);
    if (turn !== state.turn) return;
    if (answer.region.outline) outline.showOutline(answer.region.outline);
    numbers.show(answer);
    changes.offer(answer);
    tellRegion();
    if (state.situation && !page.at) numbers.movedOn(state.situation.sequence);
  } catch (error) {
    if (turn !== state.turn) return;
    numbers.clear();
    regionFaults.show(error);
  }
}

// --- what-if ------------------------------------------------------------------------------------

function changesChanged() {
  if (result.answer) result.outdated();
  byId("saved-note").textContent = "";
  keep();
}

function scenario() {
  const hours = byId("hours").valueAsNumber;
  return { changes: changes.list, ...(Number.isNaN(hours) ? {} : { hours }), ...(page.at ? { at: page.at } : {}) };
}

async function evaluate(event) {
  event.preventDefault();
  runFaults.clear();
  changes.counted([]);
  if (byId("evaluate").disabled) return;
  byId("evaluate").disabled = true;
  result.clear(say("evaluating"));
  moments.clear();
  draw();
  const asked = scenario();
  try {
    const answer = await api.post(`${page.urls.scenarios}/evaluate?lang=${page.lang}`, asked);
    if (changes.list === asked.changes) changes.counted(answer.selected);
    result.show(answer);
    if (changes.list !== asked.changes) result.outdated();
    moments.show(answer, state.chosen);
  } catch (error) {
    result.clear();
    refusedRun(error, runFaults);
  } finally {
    byId("evaluate").disabled = false;
    draw();
  }
}

// Faults of a change stand at that change, the others at what they speak of.
function refusedRun(error, faults) {
  if (!(error instanceof Refusal)) throw error;
  const rest = error.faults.filter(({ row, reason }) => !row || !changes.faultAt(row, reason));
  if (rest.length || !error.faults.length) faults.show(Object.assign(new Refusal(error.status, error), { title: error.title, detail: error.detail, faults: rest }));
}

async function save(event) {
  event.preventDefault();
  saveFaults.clear();
  byId("saved-note").textContent = "";
  const name = byId("name").value.trim();
  if (!name) return saveFaults.at("name", say("need_name"));
  byId("save").disabled = true;
  byId("saved-note").textContent = say("saving");
  try {
    const answer = await api.ask("POST", `${page.urls.scenarios}?lang=${page.lang}`, { ...scenario(), name, shared: byId("share-it").checked });
    const kept = await answer.json().catch(() => {
      throw new Refusal(0); // cut off in the middle
    });
    const told = say(answer.status === 201 ? "saved_new" : "saved_same", { name: kept.name, shared: say(kept.shared ? "shared" : "private") });
    const go = el("button", { cls: "place", text: say("saved_go"), attrs: { type: "button" }, on: { click: () => showSaved(kept.scenario_id) } });
    replace(byId("saved-note"), el("span", { text: told }), go);
    if (state.view === "saved") saved.load();
  } catch (error) {
    byId("saved-note").textContent = "";
    refusedRun(error, saveFaults);
  } finally {
    byId("save").disabled = false;
  }
}

function showSaved(id) {
  saved.mark(id);
  chooseView("saved");
}

function openSaved(whole) {
  changes.set(whole.scenario.changes ?? []);
  byId("hours").value = whole.scenario.hours ?? "";
  byId("name").value = whole.name;
  byId("share-it").checked = whole.shared;
  const { at } = whole.scenario;
  const elsewhere = at && Date.parse(at) !== Date.parse(page.at ?? "") ? ` ${say("kept_at", { time: dayAndTime(at) })}` : "";
  changes.counted(whole.result.selected ?? []);
  result.show(whole.result, `${say("opened", { name: whole.name })} · ${say("result_kept", { time: dayAndTime(whole.created_at) })}${elsewhere}`);
  moments.show(whole.result, state.chosen);
  chooseView("suppose");
  byId("view-suppose").focus();
  draw();
}

// --- the page -----------------------------------------------------------------------------------

function chooseView(view) {
  state.view = view;
  for (const name of VIEWS) {
    byId(name).hidden = name !== view;
    byId(`view-${name}`).setAttribute("aria-selected", String(name === view));
    byId(`view-${name}`).tabIndex = name === view ? 0 : -1;
  }
  if (view === "saved") saved.load();
  keep();
}

// What was drawn and supposed outlives a change of language or time, in this tab.
function keep() {
  if (!state.ready) return;
  try {
    sessionStorage.setItem(KEPT, JSON.stringify({ body: outline.body, kind: outline.kind, changes: changes.list, hours: byId("hours").value, view: state.view }));
  } catch {
    // a browser that stores nothing, or an outline too large for it, begins anew
  }
}

function recall() {
  let kept = null;
  try {
    kept = JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    // as above
  }
  state.ready = true;
  if (kept?.body) outline.restore(kept.body, kept.kind);
  if (Array.isArray(kept?.changes)) changes.set(kept.changes);
  byId("hours").value = kept?.hours ?? "";
  chooseView(VIEWS.includes(kept?.view) ? kept.view : "region");
}

VIEWS.forEach((name, at) => {
  byId(`view-${name}`).addEventListener("click", () => chooseView(name));
  byId(`view-${name}`).addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const other = VIEWS[(at + step + VIEWS.length) % VIEWS.length];
    chooseView(other);
    byId(`view-${other}`).focus();
  });
});
byId("evaluate-form").addEventListener("submit", evaluate);
byId("hours").addEventListener("input", changesChanged);
byId("save-form").addEventListener("submit", save);

tellRegion();
recall();
if (page.situation) onSituation(page.situation);
else draw();
connection.start();

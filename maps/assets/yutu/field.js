// The field page: fills the form, keeps what is filed on the device, and sends when it can.

import { el, replace, speaker } from "./dom.js";
import { bodyOf, Form, newId } from "./field_form.js";
import { drawQueue } from "./field_queue.js";
import { Sender } from "./field_sender.js";
import * as store from "./field_store.js";

const data = JSON.parse(document.getElementById("field-data").textContent);
const RETRY_MS = 15000;
const UPDATE_MS = 600000;
let lang = chosenLang();
let districts = null;
let newer = false;
let line = navigator.onLine ? "idle" : "offline";

const say = (key, values) => speaker(data.words[lang])(key, values);
const plans = () => ["special-equipment-2023", "communications-2024", "power-outage-2021"]
  .map((plan) => data.plans[lang].find((one) => one.plan === plan)).filter(Boolean);

function chosenLang() {
  try {
    const kept = localStorage.getItem("yutu-field-lang");
    if (kept === "zh" || kept === "en") return kept;
  } catch { /* storage is barred: Chinese */ }
  return "zh";
}

const sender = new Sender(() => lang, (now) => {
  line = now;
  draw();
});
const form = new Form(document.getElementById("form"), {
  say, plans, districts: () => districts, submit: file,
  changed: (draft) => keepDraft(draft),
  cleared: (mended) => (mended ? resume() : keepDraft(null)),
});

// Keeps a report on the device, then sends what waits. Returns the key of what is missing.
async function file(draft, files, mending) {
  let incident_id = mending?.incident_id ?? newId();
  let { body, fault } = bodyOf(draft, incident_id);
  if (fault) return fault;
  let text = JSON.stringify(body);
  if (mending?.problem?.status === 409 && text !== mending.body) {
    incident_id = newId(); // the old one is another report's for ever
    text = JSON.stringify({ ...body, incident_id });
  }
  const key = mending?.key ?? newId();
  try {
    const photos = await Promise.all(files.map(async (one) => ({
      attachment_id: newId(), report: key, name: one.name, type: one.type, state: "waiting",
      problem: null, bytes: await one.arrayBuffer(),
    })));
    await store.keep({
      key, incident_id, draft, body: text, state: "waiting", problem: null, receipt: null,
      made_at: mending?.made_at ?? new Date().toISOString(),
      account: mending?.account ?? (await store.about("account")) ?? null,
    }, photos);
  } catch {
    return "not_kept";
  }
  navigator.storage?.persist?.();
  sender.send();
  await draw();
  document.getElementById("queue").scrollIntoView({ block: "start" });
  return null;
}

async function draw() {
  const [reports, photos, account] = await Promise.all([store.reports(), store.photos(), store.about("account")]);
  drawLine();
  drawAccount(account);
  drawQueue(document.getElementById("queue"), {
    reports, photos, account, say, nameOf, graded, districtName,
    mend: (one, its) => {
      form.open(one.draft, one, its);
      window.scrollTo(0, 0);
    },
    drop: async (one) => {
      if (!window.confirm(say("delete_sure"))) return;
      await store.forget(one.key);
      draw();
    },
  });
}

// Who is signed in here as far as this device knows, and the way out.
function drawAccount(account) {
  const known = line === "signed_out" ? null : account;
  document.getElementById("user").textContent = known ?? "";
  document.getElementById("user").title = known ?? "";
  document.getElementById("sign-out").hidden = !known;
}

// What waits stays on this device and is sent in its account's name alone: said before it is left.
async function signOut() {
  const [reports, photos, name] = await Promise.all([store.reports(), store.photos(), store.about("account")]);
  const own = reports.filter((one) => !one.account || one.account === name);
  const n = own.filter((one) => one.state === "waiting"
    || (one.state === "sent" && photos.some((photo) => photo.report === one.key && photo.state === "waiting"))).length;
  if (n && !window.confirm(say("sign_out_sure", { n, name }))) return;
  if (await sender.signOut(data.logout_url)) location.assign(loginUrl());
  else window.alert(say("sign_out_failed"));
}

function loginUrl() {
  return `/login?next=${encodeURIComponent(data.page_url)}&lang=${lang}`;
}

function drawLine() {
  const node = document.getElementById("line");
  node.dataset.line = line;
  const update = newer && line === "idle";
  replace(node, el("span", { text: say(update ? "update_ready" : `line_${line}`) }), line === "signed_out"
    ? el("a", { text: say("sign_in"), attrs: { href: loginUrl() } }) : null,
  update ? el("button", { text: say("update_now"), attrs: { type: "button", id: "update" }, on: { click: () => location.reload() } }) : null);
}

function nameOf(draft) {
  const plan = data.plans[lang].find((one) => one.plan === draft.plan);
  const kind = plan?.kinds.find((one) => one.kind === draft.kind);
  return [say(`plan_${draft.plan}`), kind?.name ?? draft.kind].join(" · ");
}

function graded(draft) {
  return data.plans[lang].find((one) => one.plan === draft.plan)?.graded ?? true;
}

function districtName(adcode) {
  const found = districts?.features.find((one) => one.properties.adcode === adcode);
  return (lang === "en" && found?.properties.name_en) || found?.properties.name || adcode;
}

function speak() {
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
  document.title = say("title");
  document.getElementById("title").textContent = say("title");
  document.getElementById("language").textContent = say("language");
  document.getElementById("sign-out").textContent = say("sign_out");
}

document.getElementById("language").addEventListener("click", () => {
  lang = lang === "zh" ? "en" : "zh";
  try {
    localStorage.setItem("yutu-field-lang", lang);
  } catch { /* only for this visit */ }
  speak();
  form.render();
  draw();
});
document.getElementById("sign-out").addEventListener("click", signOut);
window.addEventListener("online", () => sender.send());
window.addEventListener("offline", () => {
  line = "offline";
  drawLine();
});
window.addEventListener("pageshow", (event) => event.persisted && sender.left && location.reload());
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && sender.send());
setInterval(() => line !== "signed_out" && sender.send(), RETRY_MS);

speak();
draw();
resume();
fetch(data.districts_url).then(async (answer) => {
  if (answer.ok) districts = await answer.json();
  draw();
}).catch(() => {});
keepUpToDate();
sender.send();

// What is being filled in outlives the page too; photos only once it is filed.
function keepDraft(draft) {
  return store.setAbout("draft", draft).catch(() => {});
}

async function resume() {
  const draft = await store.about("draft").catch(() => null);
  if (draft && !form.touched && plans().some((one) => one.plan === draft.plan)) form.open(draft, null, []);
}

// A new worker brings a new page: at once when nothing is being filled in, else when asked to.
function keepUpToDate() {
  const workers = navigator.serviceWorker;
  if (!workers) return;
  const updating = Boolean(workers.controller);
  workers.addEventListener("controllerchange", () => {
    if (!updating) return;
    if (form.touched) {
      newer = true;
      drawLine();
    } else location.reload();
  });
  workers.register(data.worker_url, { scope: data.page_url, updateViaCache: "none" })
    .then((registration) => setInterval(() => registration.update().catch(() => {}), UPDATE_MS))
    .catch((error) => console.warn(error));
}

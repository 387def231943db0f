// Elements, numbers and times. Text reaches the page only through textContent.

export function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  const { cls, text, attrs, on, data } = options;
  if (cls) node.className = cls;
  if (text !== undefined && text !== null) node.textContent = String(text);
  for (const [name, value] of Object.entries(attrs ?? {})) {
    if (value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  for (const [name, value] of Object.entries(data ?? {})) node.dataset[name] = String(value);
  for (const [event, handler] of Object.entries(on ?? {})) node.addEventListener(event, handler);
  for (const child of children.flat()) if (child) node.append(child);
  return node;
}

export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat().filter(Boolean));
}

// "{n} districts" with {n: 3}, and with {n: 1} the words of "<key>_one" where there are such; an
// unknown key shows itself rather than nothing.
export function speaker(words) {
  return (key, values = {}) => {
    const text = (String(values.n) === "1" && words[`${key}_one`]) || (words[key] ?? key);
    return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
  };
}

export const ROMAN = { 1: "Ⅰ", 2: "Ⅱ", 3: "Ⅲ", 4: "Ⅳ" };

const plain = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2 });

export function integer(value) {
  return typeof value === "number" ? plain.format(value) : "—";
}

export function decimal(value) {
  return typeof value === "number" ? fine.format(value) : "—";
}

// Never rounds across a threshold: 49.996 % is shown as 49.99 %, not 50 %. Something lost is never
// shown as 0 %, something left never as 100 %.
export function percent(share) {
  if (typeof share !== "number" || !Number.isFinite(share)) return "—";
  const digits = share > 0 && share < 0.01 ? 100 : 10;
  const scaled = Math.floor(share * 100 * digits + 1e-9) / digits;
  if (share > 0 && scaled === 0) return "<0.01%";
  return `${scaled}%`;
}

// Times are shown as the city's (UTC+8), whatever the device is set to.
const CITY_OFFSET_MS = 8 * 3600 * 1000;

export function clockTime(date) {
  return new Date(date.getTime() + CITY_OFFSET_MS).toISOString().slice(11, 19);
}

export function dayAndTime(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text ?? "—";
  return `${new Date(date.getTime() + CITY_OFFSET_MS).toISOString().slice(0, 10)} ${clockTime(date)}`;
}

export function age(seconds, say) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return say("age_seconds", { n: s });
  if (s < 3600) return say("age_minutes", { n: Math.floor(s / 60), s: s % 60 });
  if (s < 86400) return say("age_hours", { n: Math.floor(s / 3600), m: Math.floor((s % 3600) / 60) });
  return say("age_days", { n: Math.floor(s / 86400), h: Math.floor((s % 86400) / 3600) });
}

// Of a line that is up: how old the newest change is, and after a minute that nothing came since.
export function sinceWords(text, seconds, say) {
  if (seconds < 60) return say("changed_ago", { age: age(seconds, say) });
  return say("unchanged_since", { time: clockTime(new Date(text)).slice(0, 5), age: duration(seconds, say) });
}

function duration(seconds, say) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return say("for_minutes", { n: minutes });
  if (minutes < 1440) return say("for_hours", { n: Math.floor(minutes / 60), m: minutes % 60 });
  return say("for_days", { n: Math.floor(minutes / 1440), h: Math.floor((minutes % 1440) / 60) });
}

// "Ⅲ级 · 较大"; a severity without words in the page's language is shown as the plan has it.
export function levelWords(level, severity, say) {
  const key = `severity_${severity}`;
  const word = severity ? (say(key) === key ? severity : say(key)) : null;
  return [say("level_of", { level: ROMAN[level] }), word].filter(Boolean).join(" · ");
}

// The square with the level's numeral; colour and numeral always come together. `open`: it has no
// level yet only because facts are unknown.
export function levelBadge(level, say, extra = "", open = false) {
  const known = level === null || level === undefined ? "none" : String(level);
  const unsure = open && known === "none";
  return el("span", {
    cls: `badge level-${unsure ? "open" : known} ${extra}`.trim(),
    text: unsure ? "?" : (ROMAN[level] ?? "–"),
    attrs: { "aria-label": ROMAN[level] ? say("level_of", { level: ROMAN[level] }) : say(unsure ? "level_open" : "no_level"), role: "img" },
  });
}

// Whether unknown facts leave room for a graver level than the one that is certain.
export function mayBeGraver(bounds) {
  return Boolean(bounds?.at_most) && bounds.at_most !== bounds.at_least;
}

// "等级未定，至多Ⅰ级" or, beside a level, "至多Ⅰ级"; null where the level is certain.
export function openWords(bounds, say) {
  if (!mayBeGraver(bounds)) return null;
  const most = say("level_of", { level: ROMAN[bounds.at_most] });
  return bounds.at_least ? say("open_above", { most }) : say("open_wholly", { most });
}

// The line to the server: fetches the situation, follows the stream, says when it is cut.

const WATCH_MS = 30000; // how often a silent stream is checked by an ordinary request
const BEHIND_MS = 300; // an answer older than the news: ask again, but not in a tight loop
const SKEW_MS = 5000;
const TIMEOUT_MS = 8000;
const PAST_TIMEOUT_MS = 60000; // a past situation is computed, and asked for once
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

export class Connection {
  constructor({ urls, at, lang, onSituation, onState, onEvent }) {
    Object.assign(this, { urls, at, lang, onSituation, onState, onEvent });
    this.sequence = -1;
    this.wanted = -1;
    this.fetching = false;
    this.again = false;
    this.failures = 0;
    this.lostSince = null;
    this.skewMs = 0; // server's clock minus ours, from the Date header
  }

  start() {
    this.refresh();
    if (this.at) return;
    this.follow();
    setInterval(() => this.refresh(), WATCH_MS);
    window.addEventListener("offline", () => this.lost());
    window.addEventListener("online", () => this.reopen(0));
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.refresh();
    });
  }

  now() {
    return Date.now() + this.skewMs;
  }

  // One request at a time; news arriving meanwhile asks once more afterwards.
  async refresh() {
    if (this.fetching) {
      this.again = true;
      return;
    }
    this.fetching = true;
    try {
      await this.load();
    } finally {
      this.fetching = false;
      if (this.again) {
        this.again = false;
        this.refresh();
      }
    }
  }

  async load() {
    const query = new URLSearchParams({ lang: this.lang });
    if (this.at) query.set("at", this.at);
    else if (this.wanted > this.sequence) query.set("min_sequence", String(this.wanted));
    let answer;
    try {
      answer = await fetch(`${this.urls.situation}?${query}`, {
        cache: "no-cache", // revalidates by ETag; an unchanged situation costs a 304
        credentials: "same-origin",
        headers: { Accept: "application/json" },
        signal: AbortSignal.timeout(this.at ? PAST_TIMEOUT_MS : TIMEOUT_MS),
      });
    } catch {
      if (this.at) this.onState({ kind: "unread" });
      else this.lost();
      this.retryLoad();
      return;
    }
    if (answer.status === 401) {
      this.onState({ kind: "signed_out" });
      return;
    }
    if (!answer.ok) {
      if (this.at) {
        const told = await answer.json().catch(() => ({}));
        this.onState({ kind: "refused", status: answer.status, why: told.detail || told.title });
        if (answer.status >= 500) this.retryLoad();
      } else {
        if (answer.status !== 503) this.lost();
        this.retryLoad();
      }
      return;
    }
    const stamp = Date.parse(answer.headers.get("Date") ?? "");
    // The header has whole seconds and may wait under load: less than this is no wrong clock.
    if (!Number.isNaN(stamp)) {
      const skew = stamp + 500 - Date.now();
      this.skewMs = Math.abs(skew) > SKEW_MS ? skew : 0;
    }
    const situation = await answer.json().catch(() => null);
    if (!situation) {
      if (this.at) this.onState({ kind: "unread" });
      return this.retryLoad(); // cut off in the middle
    }
    if (this.at || situation.sequence >= this.sequence) {
      this.sequence = situation.sequence;
      this.onSituation(situation);
    }
    if (this.at) this.onState({ kind: "live" });
    else if (!this.source || this.source.readyState === EventSource.OPEN) this.restored();
    if (this.wanted > this.sequence) this.retryLoad(BEHIND_MS);
  }

  retryLoad(delay = 2000) {
    clearTimeout(this.loadTimer);
    this.loadTimer = setTimeout(() => this.refresh(), delay);
  }

  follow() {
    this.source?.close();
    const source = new EventSource(`${this.urls.stream}?lang=${encodeURIComponent(this.lang)}`);
    this.source = source;
    source.addEventListener("open", () => {
      this.failures = 0;
      this.restored();
      this.refresh();
    });
    source.addEventListener("error", () => {
      this.lost();
      // The browser retries a cut line by itself but gives up on a refusal; then we do it.
      if (source.readyState === EventSource.CLOSED) this.reopen();
    });
    source.addEventListener("situation", (event) => {
      const news = parsed(event.data);
      if (typeof news?.sequence === "number") this.wanted = Math.max(this.wanted, news.sequence);
      this.refresh();
    });
    for (const kind of ["incident", "warning", "response"]) {
      source.addEventListener(kind, (event) => this.onEvent(kind, parsed(event.data)));
    }
  }

  reopen(delay) {
    clearTimeout(this.openTimer);
    const wait = delay ?? RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
    this.failures += 1;
    this.openTimer = setTimeout(() => this.follow(), wait);
  }

  lost() {
    if (this.at || this.lostSince !== null) return;
    this.lostSince = Date.now();
    this.onState({ kind: "lost", since: new Date(this.lostSince) });
  }

  restored() {
    if (this.lostSince === null) {
      this.onState({ kind: "live" });
      return;
    }
    this.lostSince = null;
    this.onState({ kind: "live" });
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

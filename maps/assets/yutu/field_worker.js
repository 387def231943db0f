// Keeps the field page and all it needs, so that it opens without a network and without a session.
// The server writes `const VERSION, FILES` above; any changed file makes another worker.
const CACHE = `yutu-field-${VERSION}`;

self.addEventListener("install", (event) => {
  event.waitUntil(keep().then(() => self.skipWaiting()));
});

// A redirect is the sign-in page, which must not be kept in place of the field page.
async function keep() {
  const cache = await caches.open(CACHE);
  await Promise.all(
    FILES.map(async (url) => {
      const answer = await fetch(url, { cache: "reload", redirect: "error", credentials: "same-origin" });
      if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
      await cache.put(url, answer);
    }),
  );
}

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) =>
        Promise.all(
          names.filter((name) => name.startsWith("yutu-field-") && name !== CACHE).map((name) => caches.delete(name)),
        ),
      )
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  if (!FILES.includes(url.pathname)) return;
  event.respondWith(
    caches
      .open(CACHE)
      .then((cache) => cache.match(url.pathname))
      .then((kept) => kept ?? fetch(event.request)),
  );
});

// Reports and photos on this device, in IndexedDB: they outlive the page, the browser and a session.

const NAME = "yutu-field";
let opened = null;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore("reports", { keyPath: "key" });
      asked.result.createObjectStore("photos", { keyPath: "attachment_id" });
      asked.result.createObjectStore("about", { keyPath: "name" });
    };
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  return opened;
}

// One transaction; resolved only once it is complete, that is on the device's disk.
async function run(stores, mode, work) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(stores, mode, { durability: "strict" });
    const request = work(transaction);
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

export async function reports() {
  const found = await run(["reports"], "readonly", (t) => t.objectStore("reports").getAll());
  return found.sort((a, b) => a.made_at.localeCompare(b.made_at));
}

export function report(key) {
  return run(["reports"], "readonly", (t) => t.objectStore("reports").get(key));
}

export function photos() {
  return run(["photos"], "readonly", (t) => t.objectStore("photos").getAll());
}

// A report with its photos, together or not at all.
export function keep(one, its_photos = []) {
  return run(["reports", "photos"], "readwrite", (t) => {
    t.objectStore("reports").put(one);
    for (const photo of its_photos) t.objectStore("photos").put(photo);
  });
}

// Ends the use of this device by an account: reports that were nobody's are marked as its own, and
// what is filed from now on is nobody's until someone signs in.
export function leave(account) {
  return run(["reports", "about"], "readwrite", (t) => {
    t.objectStore("reports").openCursor().onsuccess = ({ target: { result: at } }) => {
      if (!at) return;
      if (!at.value.account) at.update({ ...at.value, account });
      at.continue();
    };
    t.objectStore("about").delete("account");
  });
}

export function keepPhoto(photo) {
  return run(["photos"], "readwrite", (t) => t.objectStore("photos").put(photo));
}

export async function forget(key) {
  const its = (await photos()).filter((photo) => photo.report === key);
  await run(["reports", "photos"], "readwrite", (t) => {
    t.objectStore("reports").delete(key);
    for (const photo of its) t.objectStore("photos").delete(photo.attachment_id);
  });
}

export async function about(name) {
  return (await run(["about"], "readonly", (t) => t.objectStore("about").get(name)))?.value;
}

export function setAbout(name, value) {
  return run(["about"], "readwrite", (t) => t.objectStore("about").put({ name, value }));
}

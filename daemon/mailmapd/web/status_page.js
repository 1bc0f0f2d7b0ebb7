"use strict";
// Every two seconds the page is fetched anew and its live part replaced; a hidden page rests.
const INTERVAL = 2000;
const DEADLINE = 10000;

async function refresh() {
  if (!document.hidden) {
    try {
      const response = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(DEADLINE) });
      if (!response.ok) throw new Error(response.statusText);
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("live");
      if (!String(getSelection())) document.getElementById("live").replaceWith(fresh);
      document.body.classList.remove("lost");
    } catch {
      document.body.classList.add("lost");
    }
  }
  setTimeout(refresh, INTERVAL);
}

setTimeout(refresh, INTERVAL);

// A hint over the socket makes the page fetch its own progress at once. The hint carries nothing that is
// shown; without a socket the page asks every five seconds while work is unfinished.
"use strict";

(() => {
  const place = document.querySelector("[data-socket]");
  if (!place || !("WebSocket" in window)) return;
  const address = new URL(place.dataset.socket, window.location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  let wait = 1000;

  // Hints that come while an answer is on its way are not lost: one more question follows that answer.
  let asking = false;
  let again = false;
  const ask = () => {
    if (!document.querySelector("#progress[data-working]")) return;
    if (asking) {
      again = true;
    } else {
      window.htmx.trigger(document.body, "case-changed");
    }
  };
  const isProgress = (event) => event.detail.elt && event.detail.elt.id === "progress";
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (isProgress(event)) asking = true;
  });
  for (const end of ["htmx:afterSettle", "htmx:responseError", "htmx:sendError"]) {
    document.addEventListener(end, (event) => {
      if (!isProgress(event)) return;
      asking = false;
      if (again) {
        again = false;
        ask();
      }
    });
  }

  const open = () => {
    const socket = new WebSocket(address);
    socket.addEventListener("open", () => { wait = 1000; });
    socket.addEventListener("message", ask);
    socket.addEventListener("close", (event) => {
      if (event.code === 1008 || event.code >= 4000) return; // refused: asking again would not help
      window.setTimeout(open, wait);
      wait = Math.min(wait * 2, 30000);
    });
  };
  open();
})();

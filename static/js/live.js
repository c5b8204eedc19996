// A hint over the socket makes the page fetch its own progress at once. The hint carries nothing that is
// shown; without a socket the page asks every five seconds while work is unfinished.
"use strict";

(() => {
  const place = document.querySelector("[data-socket]");
  if (!place || !("WebSocket" in window)) return;
  const address = new URL(place.dataset.socket, window.location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  let wait = 1000;

  const open = () => {
    const socket = new WebSocket(address);
    socket.addEventListener("open", () => { wait = 1000; });
    socket.addEventListener("message", () => {
      if (document.querySelector("#progress[data-working]")) window.htmx.trigger(document.body, "case-changed");
    });
    socket.addEventListener("close", (event) => {
      if (event.code === 1008 || event.code >= 4000) return; // refused: asking again would not help
      window.setTimeout(open, wait);
      wait = Math.min(wait * 2, 30000);
    });
  };
  open();
})();

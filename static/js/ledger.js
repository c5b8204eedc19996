/* The QR code carries the ledger code behind "#", which browsers never send to a server or a log. */
"use strict";
(function () {
  const code = decodeURIComponent(window.location.hash.slice(1));
  const field = document.getElementById("id_code");
  if (code && field && !field.value) {
    field.value = code.slice(0, 40);
    window.history.replaceState(null, "", window.location.pathname);
    document.getElementById("id_day").focus();
  }
})();

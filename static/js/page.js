// Every page with htmx: errors are said in words, moved focus, printing. No state is kept.
"use strict";

(() => {
  const say = (text) => {
    let list = document.querySelector(".messages");
    if (!list) {
      list = document.createElement("ul");
      list.className = "messages";
      list.setAttribute("role", "alert");
      document.querySelector("main .page").prepend(list);
    }
    const item = document.createElement("li");
    item.className = "notice notice-error";
    item.textContent = text;
    list.replaceChildren(item);
    list.scrollIntoView({ block: "nearest" });
  };

  // A refused request answers with a page whose sentence says what to do.
  document.addEventListener("htmx:responseError", (event) => {
    const answer = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
    const sentence = answer.querySelector(".error-sentence") || answer.querySelector("main p");
    say(sentence ? sentence.textContent.trim() : "This did not work. Reload the page and try again.");
  });

  document.addEventListener("htmx:sendError", () => {
    say("The site could not be reached. Nothing was changed. Try again.");
  });

  // On a narrow screen the comparison lies below the list: go there when a row asks for it.
  document.addEventListener("htmx:afterSwap", (event) => {
    const asked = event.detail.requestConfig && event.detail.requestConfig.elt;
    const place = asked && asked.dataset && asked.dataset.show && document.querySelector(asked.dataset.show);
    if (!place) return;
    const box = place.getBoundingClientRect();
    if (box.top < 0 || box.top > window.innerHeight * 0.6) place.scrollIntoView({ block: "start" });
  });

  // A verdict button is replaced with its form: give the focus back to the same button.
  let focused = "";
  document.addEventListener("htmx:beforeSwap", () => {
    const active = document.activeElement;
    const row = active && active.closest("form.verdict") && active.closest("tr");
    focused = row ? `#${CSS.escape(row.id)} button[value="${active.value}"]` : "";
  });
  document.addEventListener("htmx:afterSettle", () => {
    const button = focused && document.querySelector(focused);
    if (button) button.focus({ preventScroll: true });
    focused = "";
  });

  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }
})();

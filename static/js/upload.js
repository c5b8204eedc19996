// The upload form: drop files on it, take a photo on a phone, give each file its own age. Without this
// script it is a plain form with one age for all files.
"use strict";

(() => {
  const formOf = (node) => node.closest && node.closest("form[data-upload]");
  const filesOf = (form) => form.querySelector('input[name="photos"]');

  const give = (form, files) => {
    const basket = new DataTransfer();
    for (const file of files) basket.items.add(file);
    filesOf(form).files = basket.files;
    show(form);
  };

  // One row of ages per file, in the order of the files; what was typed in a row stays.
  const show = (form) => {
    const place = form.querySelector("[data-ages]");
    const files = [...filesOf(form).files];
    const rows = place.querySelectorAll("[data-age]");
    const model = rows[0];
    model.dataset.first = model.dataset.first || model.querySelector("[data-name]").textContent;
    for (const row of [...rows].slice(Math.max(files.length, 1))) row.remove();
    for (let count = rows.length; count < files.length; count += 1) {
      const row = model.cloneNode(true);
      for (const field of row.querySelectorAll("input")) field.value = "";
      place.append(row);
    }
    [...place.querySelectorAll("[data-age]")].forEach((row, index) => {
      const name = files.length ? `${files[index].name}: ${form.dataset.age || "age at photo"}` : model.dataset.first;
      row.querySelector("[data-name]").textContent = name;
    });
  };

  document.addEventListener("change", (event) => {
    const form = formOf(event.target);
    if (!form || event.target.type !== "file") return;
    if (event.target === filesOf(form)) {
      show(form);
    } else {
      give(form, [...filesOf(form).files, ...event.target.files]);
      event.target.value = "";
    }
  });

  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      const form = formOf(event.target);
      if (!form) return;
      event.preventDefault();
      form.querySelector("[data-drop]").classList.add("drop-over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    const form = formOf(event.target);
    if (form && !form.contains(event.relatedTarget)) form.querySelector("[data-drop]").classList.remove("drop-over");
  });
  document.addEventListener("drop", (event) => {
    const form = formOf(event.target);
    if (!form) return;
    event.preventDefault();
    form.querySelector("[data-drop]").classList.remove("drop-over");
    const pictures = [...event.dataTransfer.files].filter((file) => file.type.startsWith("image/") || /\.hei[cf]$/i.test(file.name));
    if (pictures.length) give(form, [...filesOf(form).files, ...pictures]);
  });

  // A double click would upload twice; the server would only call the second one a duplicate.
  document.addEventListener("submit", (event) => {
    const form = formOf(event.target);
    if (form) for (const button of form.querySelectorAll("button")) button.disabled = true;
  });
  window.addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("form[data-upload] button")) button.disabled = false;
  });

  const reveal = () => {
    const touch = window.matchMedia("(pointer: coarse)").matches;
    for (const button of document.querySelectorAll("[data-camera]")) button.hidden = !touch;
  };
  reveal();
  document.addEventListener("htmx:afterSettle", reveal);
})();

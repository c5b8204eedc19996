// The five points over a photo: drag them, or move the chosen one with the arrow keys. The points live in the
// number fields of the form beside the picture, so that without this script they can still be typed.
"use strict";

(() => {
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const partsOf = (picture) => {
    const card = picture.closest("article");
    return { card, form: card && card.querySelector("form[data-points]") };
  };

  const inPhoto = (picture, event) => {
    const point = new DOMPoint(event.clientX, event.clientY);
    return point.matrixTransform(picture.getScreenCTM().inverse());
  };

  const put = (mark, x, y) => {
    const picture = mark.ownerSVGElement;
    const { form } = partsOf(picture);
    if (!form) return;
    const place = mark.dataset.place;
    const left = Math.round(clamp(x, picture.dataset.width - 1) * 10) / 10;
    const top = Math.round(clamp(y, picture.dataset.height - 1) * 10) / 10;
    mark.setAttribute("transform", `translate(${left} ${top})`);
    mark.setAttribute("aria-valuenow", Math.round(left));
    mark.setAttribute("aria-valuetext", `x ${Math.round(left)}, y ${Math.round(top)}`);
    form.elements[`x${place}`].value = left;
    form.elements[`y${place}`].value = top;
    form.querySelector("[data-moved]").hidden = false;
    name(mark);
  };

  // The caption names the point that is held or has the focus.
  const name = (mark) => {
    const caption = mark.closest("figure").querySelector("[data-chosen]");
    if (caption) caption.textContent = `${mark.getAttribute("aria-label")}: ${mark.getAttribute("aria-valuetext")}`;
  };
  document.addEventListener("focusin", (event) => {
    const mark = event.target.closest && event.target.closest("svg[data-editable] .landmark");
    if (mark) name(mark);
  });

  const whereIs = (mark) => {
    const { e, f } = mark.transform.baseVal.consolidate().matrix;
    return { x: e, y: f };
  };

  const markOf = (event) => event.target.closest && event.target.closest("svg[data-editable] .landmark");
  let held = null;

  document.addEventListener("pointerdown", (event) => {
    const mark = markOf(event);
    if (!mark || event.button !== 0) return;
    const at = inPhoto(mark.ownerSVGElement, event);
    const start = whereIs(mark);
    held = { mark, dx: start.x - at.x, dy: start.y - at.y };
    mark.setPointerCapture(event.pointerId);
    mark.focus({ preventScroll: true });
    event.preventDefault();
  });

  document.addEventListener("pointermove", (event) => {
    if (!held) return;
    const at = inPhoto(held.mark.ownerSVGElement, event);
    put(held.mark, at.x + held.dx, at.y + held.dy);
  });

  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => { held = null; });
  }

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    const mark = markOf(event);
    const step = STEPS[event.key];
    if (!mark || !step) return;
    const unit = Math.max(1, Math.round(mark.ownerSVGElement.dataset.width / 400)) * (event.shiftKey ? 10 : 1);
    const at = whereIs(mark);
    put(mark, at.x + step[0] * unit, at.y + step[1] * unit);
    event.preventDefault();
  });

  // Typed numbers move the points; "put them back" restores both.
  const follow = (form) => {
    const picture = form.closest("article").querySelector("svg[data-editable]");
    for (const mark of picture ? picture.querySelectorAll(".landmark") : []) {
      const place = mark.dataset.place;
      put(mark, Number(form.elements[`x${place}`].value), Number(form.elements[`y${place}`].value));
    }
  };
  document.addEventListener("input", (event) => {
    const form = event.target.closest && event.target.closest("form[data-points]");
    if (form) follow(form);
  });
  document.addEventListener("reset", (event) => {
    const form = event.target;
    if (!form.matches("form[data-points]")) return;
    window.setTimeout(() => {
      follow(form);
      form.querySelector("[data-moved]").hidden = true;
    });
  });

  // Enlarging shows the face alone: the five points with a margin of 1.4 times their spread.
  const zoomed = (picture) => {
    const places = [...picture.querySelectorAll(".landmark")].map(whereIs);
    const xs = places.map((at) => at.x);
    const ys = places.map((at) => at.y);
    const side = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys)) * 2.4;
    const x = (Math.min(...xs) + Math.max(...xs)) / 2 - side / 2;
    const y = (Math.min(...ys) + Math.max(...ys)) / 2 - side / 2;
    return { box: `${x} ${y} ${side} ${side}`, scale: side / Math.max(picture.dataset.width, picture.dataset.height) };
  };
  const resize = (picture, scale) => {
    for (const shape of picture.querySelectorAll(".landmark > *")) {
      shape.setAttribute("transform", `scale(${scale})`);
    }
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("[data-zoom]");
    if (!button) return;
    const picture = button.closest("article").querySelector("svg.landmarks");
    const grow = button.getAttribute("aria-pressed") !== "true";
    const view = grow ? zoomed(picture) : { box: `0 0 ${picture.dataset.width} ${picture.dataset.height}`, scale: 1 };
    picture.setAttribute("viewBox", view.box);
    resize(picture, view.scale);
    button.setAttribute("aria-pressed", String(grow));
  });

  const reveal = () => {
    for (const button of document.querySelectorAll("[data-zoom]")) button.hidden = false;
  };
  reveal();
  document.addEventListener("htmx:afterSettle", reveal);
})();

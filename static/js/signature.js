/* Draws a signature on a canvas and puts it, as a PNG data URL, into the form's hidden field.
 * Without this script the typed name signs. */
"use strict";
(function () {
  const paper = document.getElementById("paper");
  const field = document.getElementById("id_drawing");
  const pen = paper.getContext("2d");
  let inked = false;
  let last = null;

  function blank() {
    pen.clearRect(0, 0, paper.width, paper.height);
    pen.lineWidth = 5;
    pen.lineCap = "round";
    pen.lineJoin = "round";
    pen.strokeStyle = "#10233a";
    inked = false;
    field.value = "";
  }

  function place(event) {
    const box = paper.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * paper.width,
      y: ((event.clientY - box.top) / box.height) * paper.height,
    };
  }

  paper.addEventListener("pointerdown", function (event) {
    paper.setPointerCapture(event.pointerId);
    last = place(event);
    event.preventDefault();
  });
  paper.addEventListener("pointermove", function (event) {
    if (!last) return;
    const next = place(event);
    pen.beginPath();
    pen.moveTo(last.x, last.y);
    pen.lineTo(next.x, next.y);
    pen.stroke();
    last = next;
    inked = true;
  });
  ["pointerup", "pointercancel"].forEach(function (name) {
    paper.addEventListener(name, function () { last = null; });
  });

  document.getElementById("clear").addEventListener("click", blank);
  document.getElementById("sign").addEventListener("submit", function () {
    field.value = inked ? paper.toDataURL("image/png") : "";
  });
  document.getElementById("draw").hidden = false;
  blank();
})();

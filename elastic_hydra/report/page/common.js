"use strict";
// Draws the pictures and the table of a sweep. What it shows is in #packed-columns: JSON, compressed by gzip, in base64.
//
// columns.origin   when times begin, in milliseconds of local time, as Plotly reads dates
// columns.lanes    the names of the slots
// columns.pauses   from when to when no launcher was at work, in milliseconds: these times are cut out of the picture
// columns.bars     what attempts have gone through: lane, begin and length in milliseconds, phase, job, attempt
// columns.jobs     num, state, value, seconds, attempts, restarts, reason
// columns.params   for each swept parameter, its value in each job: a number, a text, or null

const $ = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");  // Plotly reads some HTML in labels
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

async function unpacked(id) {
  const bytes = Uint8Array.from(atob($(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function short(value) {
  return isNumber(value) ? String(Number(value.toPrecision(6))) : value === null ? "" : String(value);
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

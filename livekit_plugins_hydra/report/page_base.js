// What all of the page shares: the data, small helpers, colors; and its head: figures and player.
"use strict";

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const duration = Math.max(data.duration_s, 0.5);
const { waves, spans, marks, exchanges, captions, rows, about, summary } = data;

const make = (tag, props = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class") element.className = value;
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
};
const SVG = "http://www.w3.org/2000/svg";
const draw = (tag, attributes = {}, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const clock = (seconds, digits = 1) => {
  const unit = 10 ** digits;
  const whole = Math.round(Math.max(0, seconds) * unit);
  const minutes = Math.floor(whole / (60 * unit));
  const rest = (whole % (60 * unit)) / unit;
  return `${minutes}:${rest.toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}`;
};
const span_of = (seconds) =>
  seconds === null || seconds === undefined ? "–"
    : seconds < 10 ? `${Math.round(seconds * 1000).toLocaleString("en")} ms` : `${seconds.toFixed(1)} s`;
// The step between ticks, at most so many of them, however long the call is said to be.
const step_of = (seconds, most, steps) => {
  const least = seconds / Math.max(1, most), last = steps.at(-1);
  return steps.find((each) => each >= least) || last * Math.ceil(least / last);
};
const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

// ------------------------------------------------------------------ theme

const root = document.documentElement;
const wish = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;
let colors = {};
const names = ["page", "card", "ink", "soft", "line", "well", "user", "agent", "tool", "think",
  "detect", "audio", "bad", "warn", "link", "cursor", "select"];
const dress = () => {
  root.dataset.theme = chosen ?? (wish.matches ? "dark" : "light");
  const style = getComputedStyle(root);
  colors = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  $("theme").textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
};
dress();

// ------------------------------------------------------------------ heading and figures

const began = new Date(data.began);
const when = Number.isNaN(began.getTime()) ? "" : began.toLocaleString("en-GB", {
  dateStyle: "long", timeStyle: "medium", timeZone: "UTC" }) + " UTC";
$("title").textContent = data.title || (when ? `Call of ${when}` : "Call");
document.title = `${$("title").textContent} · Hydra`;
const facts = [data.title && when, about.model, about.voice && `voice ${about.voice}`,
  about.rate_hz && `${about.rate_hz / 1000} kHz`, duration < 60 ? `${duration.toFixed(1)} s` : `${clock(duration, 0)} min`, about.server];
$("facts").append(...facts.filter(Boolean).map((fact) => make("span", {}, String(fact))));

const figure = (name, value, more, bad) => make("div", { class: bad ? "bad" : "" },
  make("dt", {}, name), make("dd", {}, value, make("small", {}, more || "")));
const of_kind = (kind) => marks.filter((mark) => mark.kind === kind).length;
const spoken = exchanges.filter((exchange) => exchange.kind === "speech" && !exchange.is_discarded);
const tool_calls = spans.filter((span) => span.kind === "tool").length;
$("figures").append(
  figure("Voice to voice", span_of(summary.plain.median_s),
    summary.plain.count > 1 ? `median of ${summary.plain.count}` : count(summary.plain.count, "turn")),
  figure("With tools", span_of(summary.tools.mean_s),
    summary.tools.count > 1 ? `mean of ${summary.tools.count}` : count(summary.tools.count, "turn")),
  figure("User turns", String(spoken.length), count(tool_calls, "tool call")),
  figure("Interruptions", String(of_kind("interruption")), ""),
  figure("Reconnects", String(summary.reconnects), ""),
  figure("Errors", String(of_kind("error")), of_kind("warning") ? count(of_kind("warning"), "warning") : "", of_kind("error") > 0),
);

// ------------------------------------------------------------------ player

const audio = $("audio");
const encoded = $("recording").textContent;
const has_recording = encoded.length > 0;
let loaded = false;
const load = () => {
  if (loaded || !has_recording) return;
  loaded = true;
  const raw = atob(encoded);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  audio.src = URL.createObjectURL(new Blob([bytes], { type: "audio/ogg" }));
  audio.playbackRate = Number($("speed").value);
  audio.currentTime = at;
};
let at = 0;
for (const id of ["play", "speed-label"]) $(id).hidden = !has_recording;
$("length").textContent = `/ ${clock(duration)}`;

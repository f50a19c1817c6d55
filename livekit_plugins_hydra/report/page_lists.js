// The call as lists: latencies, captions, the wire log; and what keys do.

// ------------------------------------------------------------------ legend

const swatch = (color, shape_path) => {
  const svg = draw("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" });
  svg.append(draw("path", { d: shape_path || "M-6-4h12v8h-12z", fill: `var(--${color})` }));
  return svg;
};
const legend = [
  ["detect", "turn detection"], ["think", "thinking"], ["tool", "tools"], ["audio", "first audio"],
  ["warn", "interruption", "M0-6L6 5H-6z"], ["bad", "error", "M-5-5H5V5H-5z"],
  ["link", "reconnect", "M0-6L6 0 0 6-6 0z"]];
$("legend").append(...legend.map(([color, name, path]) => make("span", {}, swatch(color, path), name)));
if (waves.source === "log") $("legend").append(make("span", {},
  "No recording was given: the waveforms are the peaks that the log holds."));

// ------------------------------------------------------------------ latencies

const what = (exchange) => {
  if (exchange.kind === "greeting") return "Greeting";
  if (exchange.kind === "request") return "Asked for";
  return exchange.is_discarded ? "Discarded" : exchange.is_barge_in ? "Barge-in" : "User turn";
};
const part = (exchange, name) => {
  const found = exchange.segments.filter(([each]) => each === name);
  return found.length ? span_of(found.reduce((sum, [, seconds]) => sum + seconds, 0)) : "";
};
const jump = (exchange) => seek(Math.max(0, exchange.end_s - 1));
const turn_rows = [];
const table = () => {
  const head = ["At", "Turn", "Voice to voice", "Detection", "Thinking", "Tools", "First audio"];
  const body = exchanges.map((exchange) => {
    const button = make("button", { type: "button" }, what(exchange));
    const tools = exchange.tools.flatMap((calls) => calls.names).join(", ");
    const cells = [
      make("td", { class: "n" }, clock(exchange.begin_s)),
      make("td", {}, button, ...(tools ? [make("div", { class: "sub" }, tools)] : [])),
      make("td", { class: "n big" }, exchange.is_discarded ? "" : span_of(exchange.voice_to_voice_s) + (exchange.is_measured || exchange.kind !== "speech" ? "" : " *")),
      ...["turn detection", "thinking", "tools", "first audio"].map((name) => make("td", { class: "n" }, part(exchange, name))),
    ];
    const row = make("tr", {}, ...cells);
    row.addEventListener("click", () => jump(exchange));
    turn_rows.push(row);
    return row;
  });
  return make("div", { class: "scroll tall-table" }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((name, i) => make("th", { class: i === 1 ? "" : "n", scope: "col" }, name)))),
    make("tbody", {}, ...body)));
};
const chart = (wide) => {
  const shown = exchanges.filter((exchange) => exchange.voice_to_voice_s !== null);
  if (!shown.length) return make("p", { class: "note" }, "Nothing was answered, so there is nothing to measure.");
  const line = 26, left = 70, right = 84, top = 24;
  const longest = Math.max(...shown.map((exchange) => exchange.voice_to_voice_s), 0.1);
  const step = step_of(longest, (wide - left - right) / 80, [0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20]);
  const most = Math.ceil(longest / step) * step;
  const scale = (seconds) => left + (seconds / most) * (wide - left - right);
  const tall = top + shown.length * line + 2;
  const svg = draw("svg", { width: wide, height: tall, class: "chart", role: "img",
    "aria-label": "Voice to voice of each turn, by what the time went into; the table has the numbers" });
  for (let n = 0; n * step <= most + 1e-9; n++) {
    const x = scale(n * step);
    svg.append(draw("line", { x1: x, x2: x, y1: top - 4, y2: tall }));
    svg.append(draw("text", { x, y: 14, "text-anchor": "middle" }, most < 2 ? `${Math.round(n * step * 1000)}${n ? "" : " ms"}` : `${+(n * step).toFixed(2)} s`));
  }
  shown.forEach((exchange, i) => {
    const y = top + i * line;
    svg.append(draw("text", { x: left - 10, y: y + 16, "text-anchor": "end" }, `${exchange.kind === "speech" ? "" : "◦ "}${clock(exchange.begin_s)}`));
    let begin = 0;
    for (const [name, seconds] of exchange.segments) {
      svg.append(draw("rect", { x: scale(begin), y: y + 4, height: 16, rx: 2,
        width: Math.max(1, scale(begin + seconds) - scale(begin)), fill: `var(--${SEGMENTS[name]})` }));
      begin += seconds;
    }
    svg.append(draw("text", { x: scale(exchange.voice_to_voice_s) + 8, y: y + 16, class: "value" }, span_of(exchange.voice_to_voice_s)));
    const hit = draw("rect", { x: 0, y, width: wide, height: line, class: "hit" });
    hit.append(draw("title", {}, `${what(exchange)}: ${exchange.segments.map(([n, s]) => `${n} ${span_of(s)}`).join(", ")}`));
    hit.addEventListener("click", () => jump(exchange));
    svg.append(hit);
  });
  const key = make("p", { class: "legend" }, ...legend.slice(0, 4).map(([color, name]) => make("span", {}, swatch(color), name)));
  return make("div", {}, make("div", { class: "tall-table" }, svg), key);
};
const chart_place = make("div", { class: "chart-place" });
$("turns").append(table(), chart_place);
const place_chart = () => chart_place.replaceChildren(chart(Math.max(260, chart_place.clientWidth - 18)));
$("meaning").textContent = "Voice to voice is from the end of the user's speech, as found in the audio that was sent, to the first audio of the answer, as it came in; "
  + "where functions were called, to the first audio after their last output. Turns with functions count apart, as in the vendor's benchmark."
  + (exchanges.some((exchange) => exchange.kind !== "speech") ? " ◦ was asked for and not spoken to." : "")
  + (exchanges.some((exchange) => exchange.kind === "speech" && !exchange.is_measured) ? " * from the server's speech_stopped: the log has no peaks for this turn." : "");

// ------------------------------------------------------------------ captions

$("captions-card").hidden = captions.length === 0;
for (const caption of captions) {
  const item = make("li", {}, make("span", { class: "t" }, clock(caption.begin_s)),
    make("span", { class: caption.who }, caption.who === "user" ? "User" : "Agent"), make("span", {}, caption.text));
  item.addEventListener("click", () => seek(caption.begin_s));
  caption_items.push(item);
}
$("captions").append(...caption_items);

// ------------------------------------------------------------------ the log

const LINE = 28;
const list = $("list"), tall = $("tall");
const ARROWS = { sent: "↑", received: "↓", note: "•" };
const many = rows.some((row) => row[2] > 1);
const texts = new Array(rows.length);
const text_of = (i) => (texts[i] ??= `${rows[i][3]} ${rows[i][4]} ${JSON.stringify(rows[i][6])}`.toLowerCase());
let shown = rows.map((_, i) => i);
let chosen_row = -1;
const alive = new Map();

const kinds = [...new Set(rows.map((row) => row[3]))].sort();
$("kind").append(make("option", { value: "" }, "All types"), ...kinds.map((kind) => make("option", { value: kind }, kind)));

const line_of = (i) => {
  const [seconds, direction, connection, kind, words, flag] = rows[i];
  const line = make("div", { class: `row ${direction === "note" ? "link" : direction} ${flag}`, role: "option", id: `row-${i}` },
    make("span", { class: "t" }, clock(seconds, 3)), ...(many ? [make("span", { class: "c" }, `#${connection}`)] : []),
    make("span", { class: "d", title: direction }, ARROWS[direction]), make("span", { class: "k" }, kind), make("span", { class: "s" }, words));
  line.addEventListener("click", () => choose(i));
  return line;
};
const paint_list = () => {
  const first = Math.max(0, Math.floor(list.scrollTop / LINE) - 8);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / LINE) + 8);
  const now = passed(at);
  const wanted = new Set(shown.slice(first, last));
  for (const [i, line] of alive) if (!wanted.has(i)) { line.remove(); alive.delete(i); }
  for (let n = first; n < last; n++) {
    const i = shown[n];
    let line = alive.get(i);
    if (!line) { line = line_of(i); alive.set(i, line); tall.append(line); }
    line.style.top = `${n * LINE}px`;
    line.setAttribute("aria-selected", String(i === chosen_row));
    line.setAttribute("aria-posinset", String(n + 1));
    line.setAttribute("aria-setsize", String(shown.length));
    line.classList.toggle("past", n === now);
  }
};
const passed = (seconds) => {
  let low = 0, high = shown.length;
  while (low < high) { const middle = (low + high) >> 1; if (rows[shown[middle]][0] <= seconds + 1e-4) low = middle + 1; else high = middle; }
  return low - 1;
};
const follow_log = () => {
  const n = passed(at);
  const top = n * LINE;
  if (n >= 0 && (top < list.scrollTop + LINE || top > list.scrollTop + list.clientHeight - 2 * LINE)) list.scrollTop = top - list.clientHeight / 3;
  paint_list();
};
const filter = () => {
  const wish_for = $("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const kind = $("kind").value;
  const on = Object.fromEntries([...document.querySelectorAll("[data-show]")].map((b) => [b.dataset.show, b.getAttribute("aria-pressed") === "true"]));
  const only_errors = document.querySelector("[data-only]").getAttribute("aria-pressed") === "true";
  shown = [];
  rows.forEach((row, i) => {
    if (only_errors && row[5] !== "error") return;
    if (!on[row[1]] || (row[5] === "audio" && !on.audio) || (kind && row[3] !== kind)) return;
    if (wish_for.length && !wish_for.every((word) => text_of(i).includes(word))) return;
    shown.push(i);
  });
  tall.style.height = `${shown.length * LINE}px`;
  $("count").textContent = shown.length === rows.length ? count(rows.length, "row") : `${shown.length} of ${count(rows.length, "row")}`;
  $("empty").hidden = shown.length > 0;
  for (const line of alive.values()) line.remove();
  alive.clear();
  paint_list();
};
const choose = (i) => {
  chosen_row = i;
  const [seconds, direction, connection, kind, , , frame] = rows[i];
  $("detail-title").textContent = `${clock(seconds, 3)} ${direction} ${kind}${many ? ` on connection ${connection}` : ""}`;
  $("json").textContent = typeof frame === "string" ? frame : JSON.stringify(frame, null, 2);
  $("json").scrollTop = 0;
  $("copy").hidden = $("seek").hidden = false;
  list.setAttribute("aria-activedescendant", `row-${i}`);
  paint_list();
};
const move = (by) => {
  if (!shown.length) return;
  const n = clamp(chosen_row < 0 ? Math.max(0, passed(at)) : shown.indexOf(chosen_row) + by, 0, shown.length - 1);
  const top = n * LINE;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + LINE > list.scrollTop + list.clientHeight) list.scrollTop = top + LINE - list.clientHeight;
  choose(shown[n]);
};
list.addEventListener("scroll", () => requestAnimationFrame(paint_list), { passive: true });
list.addEventListener("keydown", (event) => {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 };
  if (event.key in steps) { event.preventDefault(); event.stopPropagation(); move(steps[event.key]); }
  else if (event.key === "Enter" && chosen_row >= 0) { event.stopPropagation(); seek(rows[chosen_row][0]); }
});
let pause = 0;
$("search").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(filter, 80); });
$("kind").addEventListener("change", filter);
for (const button of document.querySelectorAll(".toggle")) button.addEventListener("click", () => {
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  filter();
});
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("json").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("json"));
    $("copy").textContent = "Selected";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
});
$("seek").addEventListener("click", () => seek(rows[chosen_row][0]));

// ------------------------------------------------------------------ what it was told

$("told").textContent = [about.instructions || "No instructions.", about.tools?.length ? `Tools: ${about.tools.join(", ")}` : "No tools.",
  about.configure_bytes && `session.configure has ${about.configure_bytes.toLocaleString("en")} bytes.`,
  about.sessions?.length && `Session ${about.sessions.join(", ")}.`].filter(Boolean).join("\n\n");

// ------------------------------------------------------------------ keys, and go

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.matches("input[type=search], select, textarea")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  const step = event.shiftKey ? 5 : 1;
  const on_button = target.matches("button, summary, input");
  const keys = {
    " ": () => play(), ArrowLeft: () => seek(at - step), ArrowRight: () => seek(at + step), Home: () => seek(0), End: () => seek(duration),
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => show(0, duration),
    n: () => go_to_turn(1), p: () => go_to_turn(-1), "/": () => $("search").focus(),
  };
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || (event.key === " " && on_button) || target === $("json")) return;
  if ((event.key === "Home" || event.key === "End") && target !== stage) return;
  event.preventDefault();
  act();
});
const redress = () => { dress(); lay_out(); };
$("theme").addEventListener("click", () => { chosen = root.dataset.theme === "dark" ? "light" : "dark"; redress(); });
wish.addEventListener("change", redress);
new ResizeObserver(() => { if (stage.clientWidth !== width) lay_out(); }).observe(stage);
lay_out();
filter();
arrive({ scroll: false });
(window.requestIdleCallback || setTimeout)(load);
root.dataset.ready = String(Math.round(performance.now()));

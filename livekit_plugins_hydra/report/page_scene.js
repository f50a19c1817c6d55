// The call as a picture: lanes, overview, and the place in the call where one is.

// ------------------------------------------------------------------ the scene

const unpack = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const peaks = { user: unpack(waves.user), agent: unpack(waves.agent) };
const bin_s = waves.bin_s;
const view = { from: 0, to: duration };
const stage = $("stage");
const scene = $("scene").getContext("2d");
const cursor = $("cursor").getContext("2d");
const overview = $("overview").getContext("2d");
let width = 0, gutter = 0, height = 0;
let hits = [];

const LANES = [
  { name: "", height: 22 },
  { name: "User", height: 66, wave: "user" },
  { name: "Latency", height: 24 },
  { name: "Agent", height: 66, wave: "agent" },
  { name: "Speech", height: 22, kinds: ["speech", "discarded"] },
  { name: "Responses", height: 22, kinds: ["response", "cancelled"] },
  { name: "Tools", height: 22, kinds: ["tool"] },
  { name: "Link", height: 24, kinds: ["connection"] },
];
const tint = (kind) => ({ speech: colors.user, discarded: colors.soft, voice: colors.agent,
  response: colors.agent, cancelled: colors.bad, tool: colors.tool, connection: colors.link,
  interruption: colors.warn, error: colors.bad, warning: colors.warn, reconnect: colors.link })[kind];
const SEGMENTS = { "turn detection": "detect", thinking: "think", tools: "tool", "first audio": "audio" };

const x_of = (seconds) => gutter + ((seconds - view.from) / (view.to - view.from)) * (width - gutter);
const s_of = (x) => view.from + ((x - gutter) / (width - gutter)) * (view.to - view.from);

const fit = (context, css_width, css_height) => {
  const ratio = window.devicePixelRatio || 1;
  const canvas = context.canvas;
  canvas.width = Math.round(css_width * ratio);
  canvas.height = Math.round(css_height * ratio);
  canvas.style.height = `${css_height}px`;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
};

const draw_wave = (context, side, from, to, left, right, top, tall, color) => {
  const values = peaks[side];
  const middle = top + tall / 2;
  const per_px = (to - from) / (right - left) / bin_s;
  context.fillStyle = color;
  context.beginPath();
  for (let x = Math.floor(left); x < right; x++) {
    const first = (from + ((x - left) / (right - left)) * (to - from)) / bin_s;
    let peak = 0;
    const last = Math.min(values.length, Math.ceil(first + per_px));
    for (let i = Math.max(0, Math.floor(first)); i < last; i++) if (values[i] > peak) peak = values[i];
    const half = Math.max(0.5, (peak / 255) * (tall / 2 - 2));
    context.rect(x, middle - half, 1, half * 2);
  }
  context.fill();
};

const bar = (span, top, tall, color, { text = "", hollow = false, room_beside = 0 } = {}) => {
  const left = Math.max(gutter, x_of(span.begin_s));
  const right = Math.min(width, Math.max(x_of(span.end_s), x_of(span.begin_s) + 3));
  if (right <= gutter || left >= width) return null;
  scene.beginPath();
  scene.roundRect(left, top, right - left, tall, Math.min(4, (right - left) / 2));
  scene.globalAlpha = hollow ? 0.1 : 0.22;
  scene.fillStyle = color;
  scene.fill();
  scene.globalAlpha = 1;
  scene.lineWidth = 1;
  scene.strokeStyle = color;
  scene.setLineDash(hollow ? [3, 3] : []);
  scene.stroke();
  scene.setLineDash([]);
  const room = right - left - 12;
  const y = top + tall / 2 + 0.5;
  scene.fillStyle = colors.ink;
  if (text && scene.measureText(text).width <= room) scene.fillText(text, left + 6, y);
  else if (text && scene.measureText(text).width + 10 < room_beside) scene.fillText(text, right + 5, y);
  return { left, right, top, bottom: top + tall };
};

const shape = (context, kind, x, y) => {
  context.fillStyle = tint(kind);
  context.beginPath();
  if (kind === "interruption") { context.moveTo(x, y - 6); context.lineTo(x + 6, y + 5); context.lineTo(x - 6, y + 5); }
  else if (kind === "reconnect") { context.moveTo(x, y - 6); context.lineTo(x + 6, y); context.lineTo(x, y + 6); context.lineTo(x - 6, y); }
  else if (kind === "warning") context.arc(x, y, 5, 0, Math.PI * 2);
  else context.rect(x - 5, y - 5, 10, 10);
  context.closePath();
  context.fill();
};

const paint_ruler = () => {
  const most = (width - gutter) / 72;
  const step = step_of(view.to - view.from, most,
    [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]);
  const first = Math.ceil(view.from / step);
  scene.fillStyle = colors.soft;
  scene.textAlign = "center";
  for (let n = 0; n <= most && (first + n) * step <= view.to; n++) {
    const seconds = (first + n) * step;
    const x = x_of(seconds);
    scene.globalAlpha = 0.6;
    scene.fillStyle = colors.line;
    scene.fillRect(Math.round(x), 18, 1, height - 18);
    scene.globalAlpha = 1;
    scene.fillStyle = colors.soft;
    const label = clock(seconds, step < 0.1 ? 2 : step < 1 ? 1 : 0);
    const half = scene.measureText(label).width / 2;
    scene.fillText(label, clamp(x, gutter + half, width - half), 9);
  }
  scene.textAlign = "left";
};

const paint_latency = (top, tall) => {
  for (const exchange of exchanges) {
    if (exchange.voice_to_voice_s === null) continue;
    let begin = exchange.end_s;
    const first = Math.max(gutter, x_of(exchange.end_s));
    const end = Math.min(width, x_of(exchange.answer_audio_s));
    if (x_of(exchange.answer_audio_s) < gutter || first > width) continue;
    for (const [name, seconds] of exchange.segments) {
      const left = Math.max(gutter, x_of(begin)), right = Math.min(width, x_of(begin + seconds));
      scene.fillStyle = colors[SEGMENTS[name]];
      if (right > left) scene.fillRect(left, top + 14, Math.max(1, right - left), 6);
      begin += seconds;
    }
    const label = span_of(exchange.voice_to_voice_s);
    const wide = scene.measureText(label).width;
    const room = hits.length && hits[hits.length - 1].label_right;
    const left = clamp((first + end) / 2 - wide / 2, gutter, width - wide);
    const hit = { left: Math.min(first, end) - 3, right: end + 3, top, bottom: top + tall,
      title: `${label} voice to voice`, text: exchange.segments.map(([n, s]) => `${n} ${span_of(s)}`).join(", ") };
    if (!room || left > room + 4) {
      scene.fillStyle = colors.ink;
      scene.fillText(label, left, top + 6);
      hit.label_right = left + wide;
    } else hit.label_right = room;
    hits.push(hit);
  }
};

const paint = () => {
  scene.clearRect(0, 0, width, height);
  hits = [];
  scene.font = "12px system-ui, sans-serif";
  scene.textBaseline = "middle";
  paint_ruler();
  let top = 0;
  for (const lane of LANES) {
    const tall = lane.height;
    if (lane.wave) {
      scene.fillStyle = colors.well;
      scene.globalAlpha = 0.7;
      scene.fillRect(gutter, top + 1, width - gutter, tall - 2);
      scene.globalAlpha = 1;
      const kind = lane.wave === "user" ? "speech" : "voice";
      for (const span of spans) {
        if (span.kind !== kind || span.end_s < view.from || span.begin_s > view.to) continue;
        const left = Math.max(gutter, x_of(span.begin_s)), right = Math.min(width, x_of(span.end_s));
        scene.globalAlpha = 0.1;
        scene.fillStyle = tint(kind);
        scene.fillRect(left, top + 1, Math.max(1, right - left), tall - 2);
        scene.globalAlpha = 1;
      }
      draw_wave(scene, lane.wave, view.from, view.to, gutter, width, top, tall, colors[lane.wave]);
    } else if (lane.name === "Latency") {
      paint_latency(top, tall);
    } else if (lane.kinds) {
      const seen = spans.filter((span) => lane.kinds.includes(span.kind) && span.end_s >= view.from && span.begin_s <= view.to);
      for (const [i, span] of seen.entries()) {
        const hollow = span.kind === "discarded";
        const next = i + 1 < seen.length ? Math.min(width, x_of(seen[i + 1].begin_s)) : width;
        const room_beside = span.kind === "tool" ? next - Math.max(x_of(span.end_s), x_of(span.begin_s) + 3) : 0;
        const hit = bar(span, top + 2, tall - 4, tint(span.kind), { text: span.label, hollow, room_beside });
        if (hit) hits.push({ ...hit, title: `${span.label}, ${span_of(span.end_s - span.begin_s)}`,
          text: span.detail });
      }
    }
    if (lane.name) {
      scene.fillStyle = lane.wave ? colors[lane.wave] : colors.soft;
      scene.font = lane.wave ? "600 12px system-ui, sans-serif" : "12px system-ui, sans-serif";
      if (gutter < 80) scene.font = scene.font.replace("12px", "11px");
      scene.fillText(lane.name, 0, top + tall / 2);
      scene.font = "12px system-ui, sans-serif";
    }
    top += tall;
  }
  const y = height - LANES[LANES.length - 1].height / 2;
  for (const mark of marks) {
    const x = x_of(mark.at_s);
    if (x < gutter || x > width) continue;
    scene.globalAlpha = 0.75;
    scene.fillStyle = tint(mark.kind);
    for (let dash = 20; dash < y - 8; dash += 7) scene.fillRect(Math.round(x), dash, 1, 4);
    scene.globalAlpha = 1;
    shape(scene, mark.kind, x, y);
    hits.push({ left: x - 8, right: x + 8, top: y - 9, bottom: y + 9, title: mark.label, text: clock(mark.at_s, 2) });
  }
  paint_cursor();
  paint_overview();
};

const paint_cursor = () => {
  cursor.clearRect(0, 0, width, height);
  const x = x_of(at);
  if (x >= gutter - 1 && x <= width + 1) {
    cursor.fillStyle = colors.cursor;
    cursor.fillRect(Math.round(x) - 1, 4, 2, height - 4);
    cursor.beginPath();
    cursor.arc(Math.round(x), 6, 5, 0, Math.PI * 2);
    cursor.fill();
  }
};

let thumbnail = null;
const paint_thumbnail = () => {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  fit(context, width, 40);
  draw_wave(context, "user", 0, duration, 0, width, 0, 22, colors.user);
  draw_wave(context, "agent", 0, duration, 0, width, 18, 22, colors.agent);
  for (const mark of marks) {
    context.fillStyle = tint(mark.kind);
    context.fillRect((mark.at_s / duration) * width, 0, 1.5, 40);
  }
  thumbnail = canvas;
};
const paint_overview = () => {
  overview.clearRect(0, 0, width, 40);
  overview.fillStyle = colors.well;
  overview.fillRect(0, 0, width, 40);
  overview.globalAlpha = 0.75;
  overview.drawImage(thumbnail, 0, 0, width, 40);
  overview.globalAlpha = 1;
  const left = (view.from / duration) * width, right = (view.to / duration) * width;
  overview.fillStyle = colors.card;
  overview.globalAlpha = 0.65;
  overview.fillRect(0, 0, left, 40);
  overview.fillRect(right, 0, width - right, 40);
  overview.globalAlpha = 1;
  overview.strokeStyle = colors.soft;
  overview.lineWidth = 1;
  overview.strokeRect(left + 0.5, 0.5, Math.max(3, right - left) - 1, 39);
  overview.fillStyle = colors.cursor;
  overview.fillRect((at / duration) * width - 1, 0, 2, 40);
};

const lay_out = () => {
  width = stage.clientWidth;
  gutter = width < 640 ? 62 : 84;
  height = LANES.reduce((sum, lane) => sum + lane.height, 0);
  fit(scene, width, height);
  fit(cursor, width, height);
  fit(overview, width, 40);
  paint_thumbnail();
  paint();
  place_chart();
};

let is_due = false;
const repaint = () => {
  if (is_due) return;
  is_due = true;
  requestAnimationFrame(() => { is_due = false; paint(); });
};

const show = (from, to) => {
  const wide = clamp(to - from, Math.min(0.4, duration), duration);
  const begin = clamp(from, 0, duration - wide);
  view.from = begin;
  view.to = begin + wide;
  repaint();
};
const zoom = (factor, around = clamp(at, view.from, view.to)) =>
  show(around - (around - view.from) * factor, around + (view.to - around) * factor);

// ------------------------------------------------------------------ where we are

let caption_now = -1, phrases_now = -1;
const caption_items = [];
const arrive = ({ scroll = true } = {}) => {
  $("clock").textContent = clock(at);
  stage.setAttribute("aria-valuenow", at.toFixed(1));
  stage.setAttribute("aria-valuetext", clock(at));
  if ($("follow").checked && (at < view.from || at > view.to - (view.to - view.from) * 0.1) && view.to - view.from < duration * 0.999) {
    const wide = view.to - view.from;
    view.from = clamp(at - wide * 0.15, 0, duration - wide);
    view.to = view.from + wide;
    repaint();
  } else { paint_cursor(); paint_overview(); }
  let now = -1;
  for (let i = 0; i < captions.length && captions[i].begin_s <= at + 0.02; i++) now = i;
  if (now >= 0 && at - captions[now].phrases.at(-1)[0] > 4) now = -1;
  const caption = captions[now];
  const said = caption ? caption.phrases.filter(([begin]) => begin <= at + 0.02).length : 0;
  if (now !== caption_now || said !== phrases_now) {
    caption_items[caption_now]?.classList.remove("now");
    caption_now = now;
    phrases_now = said;
    const words = (part) => part.map(([, text]) => text).join("");
    $("caption").replaceChildren(...(caption ? [make("b", { class: caption.who }, caption.who === "user" ? "User" : "Agent"),
      words(caption.phrases.slice(Math.max(0, said - 5), said)), make("span", { class: "ahead" }, words(caption.phrases.slice(said, said + 4)))] : []));
    caption_items[now]?.classList.add("now");
  }
  turn_rows.forEach((row, i) => row.classList.toggle("now",
    exchanges[i].begin_s <= at && (i + 1 === exchanges.length || exchanges[i + 1].begin_s > at)));
  if (scroll && $("follow").checked) follow_log();
  else paint_list();
};
const seek = (seconds) => {
  at = clamp(seconds, 0, duration);
  if (loaded) audio.currentTime = at;
  arrive();
};
const play = () => {
  if (!has_recording) return;
  load();
  if (audio.paused) {
    if (at >= duration - 0.05) { at = 0; audio.currentTime = 0; }
    audio.play();
  } else audio.pause();
};
const tick = () => {
  at = Math.min(duration, audio.currentTime);
  arrive();
  if (!audio.paused) requestAnimationFrame(tick);
};
audio.addEventListener("play", () => {
  $("play-icon").setAttribute("d", "M6 5h4v14H6zM14 5h4v14h-4z");
  $("play").setAttribute("aria-label", "Pause");
  requestAnimationFrame(tick);
});
audio.addEventListener("pause", () => {
  $("play-icon").setAttribute("d", "M7 4.5v15l13-7.5z");
  $("play").setAttribute("aria-label", "Play");
});
$("play").addEventListener("click", play);
$("speed").addEventListener("change", () => { audio.playbackRate = Number($("speed").value); });
$("in").addEventListener("click", () => zoom(0.5));
$("out").addEventListener("click", () => zoom(2));
$("fit").addEventListener("click", () => show(0, duration));
stage.setAttribute("aria-valuemax", duration.toFixed(1));

let is_dragging = false;
const point = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
stage.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  is_dragging = true;
  stage.setPointerCapture(event.pointerId);
  seek(s_of(Math.max(gutter, point(event)[0])));
});
stage.addEventListener("pointermove", (event) => {
  const [x, y] = point(event);
  if (is_dragging) { seek(s_of(clamp(x, gutter, width))); return; }
  const hit = hits.findLast((each) => x >= each.left && x <= each.right && y >= each.top && y <= each.bottom);
  const tip = $("tip");
  tip.hidden = !hit;
  if (!hit) return;
  tip.replaceChildren(make("b", {}, hit.title), hit.text.length > 300 ? `${hit.text.slice(0, 300)}…` : hit.text);
  tip.style.left = `${clamp(x + 12, 0, Math.max(0, width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${y + 16}px`;
});
for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { is_dragging = false; });
stage.addEventListener("pointerleave", () => { $("tip").hidden = true; });
stage.addEventListener("wheel", (event) => {
  const wide = view.to - view.from;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.01), s_of(clamp(point(event)[0], gutter, width)));
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
    event.preventDefault();
    const by = ((event.deltaX || event.deltaY) / (width - gutter)) * wide;
    show(view.from + by, view.to + by);
  }
}, { passive: false });

let grab = null;
const seconds_at = (event) => ((event.clientX - $("overview").getBoundingClientRect().left) / width) * duration;
$("overview").addEventListener("pointerdown", (event) => {
  const seconds = seconds_at(event), wide = view.to - view.from;
  $("overview").setPointerCapture(event.pointerId);
  grab = wide > duration * 0.98 ? null : wide / 2;
  if (grab === null) seek(seconds);
  else show(seconds - grab, seconds - grab + wide);
});
$("overview").addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  const seconds = seconds_at(event), wide = view.to - view.from;
  if (grab === null) seek(seconds);
  else show(seconds - grab, seconds - grab + wide);
});

const go_to_turn = (direction) => {
  const starts = exchanges.map((exchange) => Math.max(0, exchange.end_s - 0.5));
  const next = direction > 0 ? starts.find((s) => s > at + 0.1) : starts.findLast((s) => s < at - 0.1);
  if (next !== undefined) seek(next);
};

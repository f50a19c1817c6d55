"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const duration = Math.max(data.duration_s, 0.5);
  const { waves, spans, marks, turns, captions, rows, about, summary } = data;

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
  const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

  // ------------------------------------------------------------------ theme

  const root = document.documentElement;
  const wish = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  let colors = {};
  const names = ["page", "card", "ink", "soft", "line", "well", "user", "agent", "tool", "think",
    "detect", "sound", "bad", "warn", "link", "cursor", "select"];
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
  const spoken = turns.filter((turn) => turn.kind === "speech" && !turn.is_discarded);
  const tool_calls = spans.filter((span) => span.kind === "tool").length;
  $("figures").append(
    figure("Voice to voice", span_of(summary.plain.median_s),
      summary.plain.count > 1 ? `median of ${summary.plain.count}` : count(summary.plain.count, "turn")),
    figure("With tools", span_of(summary.tools.mean_s),
      summary.tools.count > 1 ? `mean of ${summary.tools.count}` : count(summary.tools.count, "turn")),
    figure("User turns", String(spoken.length), count(tool_calls, "tool call")),
    figure("Interruptions", String(of_kind("interruption")), ""),
    figure("Reconnects", String(marks.filter((m) => m.kind === "reconnect" && m.label.startsWith("connection")).length), ""),
    figure("Errors", String(of_kind("error")), of_kind("warning") ? count(of_kind("warning"), "warning") : "", of_kind("error") > 0),
  );

  // ------------------------------------------------------------------ sound

  const audio = $("audio");
  const encoded = $("sound").textContent;
  const has_sound = encoded.length > 0;
  let loaded = false;
  const load = () => {
    if (loaded || !has_sound) return;
    loaded = true;
    const raw = atob(encoded);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    audio.src = URL.createObjectURL(new Blob([bytes], { type: "audio/ogg" }));
    audio.playbackRate = Number($("speed").value);
    audio.currentTime = at;
  };
  let at = 0;
  for (const id of ["play", "speed-label"]) $(id).hidden = !has_sound;
  $("length").textContent = `/ ${clock(duration)}`;

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
  const SEGMENTS = { "turn detection": "detect", thinking: "think", tools: "tool", "first sound": "sound" };

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

  const step_of = (seconds_per_px) => {
    const steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
    return steps.find((step) => step / seconds_per_px > 72) || 7200;
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
    const step = step_of((view.to - view.from) / (width - gutter));
    scene.fillStyle = colors.soft;
    scene.textAlign = "center";
    for (let n = Math.ceil(view.from / step); n * step <= view.to; n++) {
      const x = x_of(n * step);
      scene.globalAlpha = 0.6;
      scene.fillStyle = colors.line;
      scene.fillRect(Math.round(x), 18, 1, height - 18);
      scene.globalAlpha = 1;
      scene.fillStyle = colors.soft;
      const label = clock(n * step, step < 0.1 ? 2 : step < 1 ? 1 : 0);
      const half = scene.measureText(label).width / 2;
      scene.fillText(label, clamp(x, gutter + half, width - half), 9);
    }
    scene.textAlign = "left";
  };

  const paint_latency = (top, tall) => {
    for (const turn of turns) {
      if (turn.voice_to_voice_s === null) continue;
      let begin = turn.end_s;
      const first = Math.max(gutter, x_of(turn.end_s));
      const end = Math.min(width, x_of(turn.answer_sound_s));
      if (x_of(turn.answer_sound_s) < gutter || first > width) continue;
      for (const [name, seconds] of turn.segments) {
        const left = Math.max(gutter, x_of(begin)), right = Math.min(width, x_of(begin + seconds));
        scene.fillStyle = colors[SEGMENTS[name]];
        if (right > left) scene.fillRect(left, top + 14, Math.max(1, right - left), 6);
        begin += seconds;
      }
      const label = span_of(turn.voice_to_voice_s);
      const wide = scene.measureText(label).width;
      const room = hits.length && hits[hits.length - 1].label_right;
      const left = clamp((first + end) / 2 - wide / 2, gutter, width - wide);
      const hit = { left: Math.min(first, end) - 3, right: end + 3, top, bottom: top + tall,
        title: `${label} voice to voice`, text: turn.segments.map(([n, s]) => `${n} ${span_of(s)}`).join(", ") };
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
      const words = (part) => part.map(([, text]) => text).join(" ");
      $("caption").replaceChildren(...(caption ? [make("b", { class: caption.who }, caption.who === "user" ? "User" : "Agent"),
        words(caption.phrases.slice(Math.max(0, said - 5), said)), " ", make("span", { class: "ahead" }, words(caption.phrases.slice(said, said + 4)))] : []));
      caption_items[now]?.classList.add("now");
    }
    turn_rows.forEach((row, i) => row.classList.toggle("now",
      turns[i].begin_s <= at && (i + 1 === turns.length || turns[i + 1].begin_s > at)));
    if (scroll && $("follow").checked) follow_log();
    else paint_list();
  };
  const seek = (seconds) => {
    at = clamp(seconds, 0, duration);
    if (loaded) audio.currentTime = at;
    arrive();
  };
  const play = () => {
    if (!has_sound) return;
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
    const starts = turns.map((turn) => Math.max(0, turn.end_s - 0.5));
    const next = direction > 0 ? starts.find((s) => s > at + 0.1) : starts.findLast((s) => s < at - 0.1);
    if (next !== undefined) seek(next);
  };

  // ------------------------------------------------------------------ legend

  const swatch = (color, shape_path) => {
    const svg = draw("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" });
    svg.append(draw("path", { d: shape_path || "M-6-4h12v8h-12z", fill: `var(--${color})` }));
    return svg;
  };
  const legend = [
    ["detect", "turn detection"], ["think", "thinking"], ["tool", "tools"], ["sound", "first sound"],
    ["warn", "interruption", "M0-6L6 5H-6z"], ["bad", "error", "M-5-5H5V5H-5z"],
    ["link", "reconnect", "M0-6L6 0 0 6-6 0z"]];
  $("legend").append(...legend.map(([color, name, path]) => make("span", {}, swatch(color, path), name)));
  if (waves.source === "log") $("legend").append(make("span", {},
    "No recording was given: the waveforms are the peaks that the log holds."));

  // ------------------------------------------------------------------ latencies

  const what = (turn) => {
    if (turn.kind === "greeting") return "Greeting";
    if (turn.kind === "request") return "Asked for";
    return turn.is_discarded ? "Discarded" : turn.is_barge_in ? "Barge-in" : "User turn";
  };
  const part = (turn, name) => {
    const found = turn.segments.filter(([each]) => each === name);
    return found.length ? span_of(found.reduce((sum, [, seconds]) => sum + seconds, 0)) : "";
  };
  const jump = (turn) => seek(Math.max(0, turn.end_s - 1));
  const turn_rows = [];
  const table = () => {
    const head = ["At", "Turn", "Voice to voice", "Detection", "Thinking", "Tools", "First sound"];
    const body = turns.map((turn) => {
      const button = make("button", { type: "button" }, what(turn));
      const tools = turn.rounds.flatMap((round) => round.names).join(", ");
      const cells = [
        make("td", { class: "n" }, clock(turn.begin_s)),
        make("td", {}, button, ...(tools ? [make("div", { class: "sub" }, tools)] : [])),
        make("td", { class: "n big" }, turn.is_discarded ? "" : span_of(turn.voice_to_voice_s) + (turn.is_measured || turn.kind !== "speech" ? "" : " *")),
        ...["turn detection", "thinking", "tools", "first sound"].map((name) => make("td", { class: "n" }, part(turn, name))),
      ];
      const row = make("tr", {}, ...cells);
      row.addEventListener("click", () => jump(turn));
      turn_rows.push(row);
      return row;
    });
    return make("div", { class: "scroll tall-table" }, make("table", {},
      make("thead", {}, make("tr", {}, ...head.map((name, i) => make("th", { class: i === 1 ? "" : "n", scope: "col" }, name)))),
      make("tbody", {}, ...body)));
  };
  const chart = (wide) => {
    const shown = turns.filter((turn) => turn.voice_to_voice_s !== null);
    if (!shown.length) return make("p", { class: "note" }, "Nothing was answered, so there is nothing to measure.");
    const line = 26, left = 70, right = 84, top = 24;
    const longest = Math.max(...shown.map((turn) => turn.voice_to_voice_s), 0.1);
    const steps = [0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20];
    const step = steps.find((each) => longest / each <= (wide - left - right) / 80) || 60;
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
    shown.forEach((turn, i) => {
      const y = top + i * line;
      svg.append(draw("text", { x: left - 10, y: y + 16, "text-anchor": "end" }, `${turn.kind === "speech" ? "" : "◦ "}${clock(turn.begin_s)}`));
      let begin = 0;
      for (const [name, seconds] of turn.segments) {
        svg.append(draw("rect", { x: scale(begin), y: y + 4, height: 16, rx: 2,
          width: Math.max(1, scale(begin + seconds) - scale(begin)), fill: `var(--${SEGMENTS[name]})` }));
        begin += seconds;
      }
      svg.append(draw("text", { x: scale(turn.voice_to_voice_s) + 8, y: y + 16, class: "value" }, span_of(turn.voice_to_voice_s)));
      const hit = draw("rect", { x: 0, y, width: wide, height: line, class: "hit" });
      hit.append(draw("title", {}, `${what(turn)}: ${turn.segments.map(([n, s]) => `${n} ${span_of(s)}`).join(", ")}`));
      hit.addEventListener("click", () => jump(turn));
      svg.append(hit);
    });
    const key = make("p", { class: "legend" }, ...legend.slice(0, 4).map(([color, name]) => make("span", {}, swatch(color), name)));
    return make("div", {}, make("div", { class: "tall-table" }, svg), key);
  };
  const chart_place = make("div", { class: "chart-place" });
  $("turns").append(table(), chart_place);
  const place_chart = () => chart_place.replaceChildren(chart(Math.max(260, chart_place.clientWidth - 18)));
  $("meaning").textContent = "Voice to voice is from the end of the user's speech, as heard in the sound that was sent, to the first sound of the answer, as it came in; "
    + "where functions were called, to the first sound after their last output. Turns with functions count apart, as in the vendor's benchmark."
    + (turns.some((turn) => turn.kind !== "speech") ? " ◦ was asked for and not spoken to." : "")
    + (turns.some((turn) => turn.kind === "speech" && !turn.is_measured) ? " * from the server's speech_stopped: the log has no peaks for this turn." : "");

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
      if (!on[row[1]] || (row[5] === "sound" && !on.sound) || (kind && row[3] !== kind)) return;
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
})();

// The page: one call at a time, from the button to the captions.

import {
  ConnectionState,
  DisconnectReason,
  ParticipantKind,
  Room,
  RoomEvent,
  Track,
} from "./node_modules/livekit-client/dist/livekit-client.esm.mjs";
import { Turns, median } from "./turns.js";

// How long an agent may take to come: a worker starts a process for each call.
const AGENT_MS = 15000;

// How often levels are looked at; latencies are as exact as this.
const LOOK_MS = 20;

const $ = (id) => document.getElementById(id);

const STATUS = {
  idle: ["Ready when you are", "Your browser will ask for the microphone."],
  connecting: ["Connecting", ""],
  waiting: ["Waiting for the agent", "It joins the room in a few seconds."],
  listening: ["Listening", "Say something, or interrupt at any time."],
  thinking: ["Thinking", ""],
  speaking: ["Speaking", "Just talk to interrupt."],
  error: ["No call", ""],
};

function show(state, hint) {
  document.body.dataset.state = state;
  const [status, usual] = STATUS[state];
  $("status").textContent = status;
  $("hint").textContent = hint ?? usual;
}

// ------------------------------------------------------------------ what can go wrong

class Problem extends Error {
  constructor(title, text) {
    super(text);
    this.title = title;
  }
}

function microphoneProblem(error) {
  switch (error.name) {
    case "NotAllowedError":
      return new Problem(
        "The microphone is blocked",
        "Allow it for this page in your browser's address bar, then try again.",
      );
    case "NotFoundError":
      return new Problem("No microphone was found", "Plug one in, then try again.");
    case "NotReadableError":
      return new Problem("The microphone is in use", "Close what else uses it, then try again.");
    default:
      return new Problem("The microphone can't be opened", error.message);
  }
}

async function openMicrophone() {
  // Browsers give no microphone to pages that came in the clear, but for localhost.
  if (!navigator.mediaDevices) {
    throw new Problem(
      "The microphone needs a secure page",
      "Open this page on localhost or over https.",
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    throw microphoneProblem(error);
  }
}

async function fetchPass() {
  let response;
  try {
    response = await fetch("token", { method: "POST" });
  } catch {
    throw new Problem("This page's server is gone", "Start it again, then try again.");
  }
  if (!response.ok) {
    throw new Problem("This page's server gave no token", await response.text());
  }
  return response.json();
}

// ------------------------------------------------------------------ one call

class Call {
  #room = new Room();
  #context = new AudioContext();
  #levels = {};
  #startedAt = performance.now();
  #timers = [];
  #stream = undefined;
  #shown = undefined;
  #isIn = false;
  #isOver = false;
  #captions = new Map();
  #latencies = [];
  #hasText = { user: false, agent: false };
  #untimedLine = undefined;
  #latency = undefined;
  #turns = new Turns({
    userBegan: () => this.#beginUser(),
    userEnded: (seconds) => this.#endUser(seconds),
    agentBegan: (latency) => this.#beginAgent(latency),
    agentEnded: (seconds) => this.#endAgent(seconds),
    agentSilenced: (delay) => this.#log(`agent fell silent ${inSeconds(delay)} into your words`),
  });

  constructor(onEnd) {
    this.onEnd = onEnd;
  }

  async start() {
    this.#listen();
    const stream = await openMicrophone();
    this.#stream = stream;
    const pass = await fetchPass();
    this.#log(`connecting to ${pass.url}`);
    try {
      await this.#room.connect(pass.url, pass.token);
    } catch (error) {
      throw new Problem(
        "LiveKit can't be reached",
        `Is a server running at ${pass.url}? The browser says: ${error.message}.`,
      );
    }
    this.#isIn = true;
    await this.#room.startAudio();
    await this.#context.resume();
    const [track] = stream.getAudioTracks();
    await this.#room.localParticipant.publishTrack(track, { source: Track.Source.Microphone });
    this.#levels.user = this.#meter(stream);
    this.#log(`in room ${this.#room.name}`);
    this.#timers.push(setInterval(() => this.#look(), LOOK_MS));
    if (!this.#agent) {
      show("waiting");
      this.#timers.push(setTimeout(() => this.#missAgent(), AGENT_MS));
    }
  }

  async end(problem) {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#room.disconnect();
    this.#stream?.getTracks().forEach((track) => track.stop());
    await this.#context.close();
    $("sound").replaceChildren();
    this.#log(problem ? `ended: ${problem.title}` : "ended");
    this.onEnd(problem);
  }

  async mute(isMuted) {
    const publication = this.#room.localParticipant.getTrackPublication(Track.Source.Microphone);
    await (isMuted ? publication?.mute() : publication?.unmute());
    this.#log(isMuted ? "microphone muted" : "microphone on");
  }

  async write(text) {
    addLine("user", text);
    this.#log("wrote a line");
    await this.#room.localParticipant.sendText(text, { topic: "lk.chat" });
  }

  // ---------------------------------------------------------------- the room

  get #agent() {
    return [...this.#room.remoteParticipants.values()].find(
      (participant) => participant.kind === ParticipantKind.AGENT,
    );
  }

  #listen() {
    const room = this.#room;
    room.on(RoomEvent.ParticipantConnected, (who) => {
      if (who.kind === ParticipantKind.AGENT) this.#log("agent joined");
      this.#showState(who);
    });
    room.on(RoomEvent.ParticipantAttributesChanged, (_, who) => this.#showState(who));
    room.on(RoomEvent.ParticipantDisconnected, (who) => {
      if (who.kind !== ParticipantKind.AGENT || this.#isOver) return;
      this.end(new Problem("The agent has left", "The call is over. Start another one."));
    });
    room.on(RoomEvent.TrackSubscribed, (track) => {
      if (track.kind !== Track.Kind.Audio) return;
      $("sound").append(track.attach());
      this.#levels.agent = this.#meter(new MediaStream([track.mediaStreamTrack]));
    });
    room.on(RoomEvent.Reconnecting, () => this.#log("connection lost, trying again"));
    room.on(RoomEvent.Reconnected, () => this.#log("connected again"));
    room.on(RoomEvent.Disconnected, (reason) => this.#endByRoom(reason));
    room.registerTextStreamHandler("lk.transcription", (reader, { identity }) => {
      this.#caption(reader, identity).catch((error) => this.#log(`caption lost: ${error.message}`));
    });
  }

  // What goes wrong before the room is joined is told by `connect`.
  #endByRoom(reason) {
    if (!this.#isIn || reason === DisconnectReason.CLIENT_INITIATED) return;
    if (reason === DisconnectReason.ROOM_DELETED) {
      this.end();
      return;
    }
    const name = DisconnectReason[reason]?.toLowerCase().replaceAll("_", " ") ?? "nothing";
    this.end(new Problem("The connection has ended", `LiveKit says: ${name}.`));
  }

  #missAgent() {
    if (this.#agent || this.#room.state !== ConnectionState.Connected) return;
    this.end(
      new Problem(
        "No agent has come",
        "Is the worker running? It is started with: python examples/agent.py dev. While its machine" +
          " is busy, LiveKit sends nobody; then try again.",
      ),
    );
  }

  #showState(who) {
    const state = who.attributes["lk.agent.state"];
    if (who.kind !== ParticipantKind.AGENT || !state || state === this.#shown) return;
    this.#shown = state;
    this.#log(`agent is ${state}`);
    show(state in STATUS ? state : "waiting");
  }

  // ---------------------------------------------------------------- captions

  // The agent's words come as one stream that grows; the user's as streams that replace each other.
  async #caption(reader, identity) {
    const side = identity === this.#room.localParticipant.identity ? "user" : "agent";
    const segment = reader.info.attributes?.["lk.segment_id"] ?? reader.info.id;
    let text = "";
    for await (const piece of reader) {
      text += piece;
      this.#write(segment, side, text);
    }
  }

  #write(segment, side, text) {
    let line = this.#captions.get(segment);
    if (!line) {
      line = addLine(side, text);
      this.#captions.set(segment, line);
      if (side === "agent") this.#time({ line });
    }
    this.#hasText[side] = true;
    line.firstChild.data = text;
    scrollDown();
  }

  // An answer's words and its sound come in either order; who comes second writes down how long
  // it took.
  #time({ line = this.#untimedLine, latency = this.#latency }) {
    if (line && latency !== undefined) {
      addNote(line, latency);
      line = latency = undefined;
    }
    this.#untimedLine = line;
    this.#latency = latency;
  }

  // ---------------------------------------------------------------- turns

  #meter(stream) {
    const analyser = new AnalyserNode(this.#context, { fftSize: 1024 });
    this.#context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    return () => {
      analyser.getFloatTimeDomainData(samples);
      return Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length);
    };
  }

  #look() {
    const isMuted = !this.#room.localParticipant.isMicrophoneEnabled;
    const user = isMuted ? 0 : this.#levels.user?.() ?? 0;
    const agent = this.#levels.agent?.() ?? 0;
    $("meter").value = inView(user);
    const isSpeaking = document.body.dataset.state === "speaking";
    $("orb").style.setProperty("--loud", inView(isSpeaking ? agent : user).toFixed(2));
    this.#turns.hear(user, agent, performance.now());
  }

  #beginUser() {
    this.#log("you speak");
    this.#untimedLine = this.#latency = undefined;
  }

  #endUser(seconds) {
    this.#log(`you spoke for ${inSeconds(seconds)}`);
    this.#addWordless("user", seconds);
  }

  #beginAgent(latency) {
    if (latency === undefined) {
      this.#log("agent speaks");
      this.#untimedLine = undefined;
      return;
    }
    this.#log(`agent answers after ${inSeconds(latency)}`);
    this.#time({ latency });
    this.#latencies.push(latency);
    $("last").textContent = inSeconds(latency);
    $("median").textContent = inSeconds(median(this.#latencies));
    $("turns").textContent = this.#latencies.length;
  }

  #endAgent(seconds) {
    this.#log(`agent spoke for ${inSeconds(seconds)}`);
    this.#addWordless("agent", seconds);
  }

  // Hydra sends no transcripts, so without an STT beside it there is no more to show.
  #addWordless(side, seconds) {
    if (!this.#hasText[side]) {
      const line = addLine(side, `spoke for ${inSeconds(seconds)}`);
      line.classList.add("wordless");
      if (side === "agent") this.#time({ line });
    }
    this.#hasText[side] = false;
  }

  #log(text) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = ((performance.now() - this.#startedAt) / 1000).toFixed(2);
    item.append(time, " ", text);
    $("events").append(item);
    $("events").scrollTop = $("events").scrollHeight;
  }
}

// ------------------------------------------------------------------ the page

const inSeconds = (seconds) => `${seconds.toFixed(2)} s`;

// Levels as people hear them: -50 dBFS is nothing, 0 dBFS is all.
const inView = (level) => Math.min(1, Math.max(0, 1 + (20 * Math.log10(level + 1e-9)) / 50));

function addLine(side, text) {
  const line = document.createElement("li");
  line.className = side;
  line.append(text);
  $("captions").append(line);
  scrollDown();
  return line;
}

function addNote(line, latency) {
  const note = document.createElement("small");
  note.textContent = `after ${inSeconds(latency)}`;
  line.append(note);
  scrollDown();
}

function scrollDown() {
  $("captions").scrollTop = $("captions").scrollHeight;
}

let call;

function showCall(isOn) {
  $("call").textContent = isOn ? "Hang up" : "Start talking";
  $("call").classList.toggle("ends", isOn);
  for (const id of ["mute", "level", "numbers", "type"]) $(id).hidden = !isOn;
  $("mute").setAttribute("aria-pressed", "false");
  $("mute").textContent = "Mute";
}

function showEnd(problem) {
  call = undefined;
  showCall(false);
  $("call").disabled = false;
  $("problem").hidden = !problem;
  if (problem) {
    $("problem-title").textContent = problem.title;
    $("problem-text").textContent = problem.message;
    $("call").textContent = "Try again";
    show("error");
  } else {
    show("idle");
  }
}

async function begin() {
  for (const id of ["captions", "events"]) $(id).replaceChildren();
  for (const id of ["last", "median"]) $(id).textContent = "–";
  $("turns").textContent = "0";
  $("problem").hidden = true;
  $("call").disabled = true;
  show("connecting");
  call = new Call(showEnd);
  try {
    await call.start();
    showCall(true);
    $("call").disabled = false;
  } catch (error) {
    const isKnown = error instanceof Problem;
    await call?.end(isKnown ? error : new Problem("Something broke", error.message));
  }
}

$("call").addEventListener("click", () => (call ? call.end() : begin()));

$("mute").addEventListener("click", async () => {
  const isMuted = $("mute").getAttribute("aria-pressed") !== "true";
  await call?.mute(isMuted);
  $("mute").setAttribute("aria-pressed", String(isMuted));
  $("mute").textContent = isMuted ? "Unmute" : "Mute";
});

$("type").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  $("text").value = "";
  if (text) await call?.write(text);
});

document.querySelector(".events").addEventListener("toggle", scrollDown);

window.addEventListener("pagehide", () => call?.end());

show("idle");
